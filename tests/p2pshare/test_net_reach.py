"""Whether others can reach us: asked and dialled on loopback, judged by what is proven, bounded for strangers."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio

from p2pshare.net import reach_server
from p2pshare.net.api import Network, Reachability, Stream
from p2pshare.net.reach import LASTS, Verdict
from p2pshare.net.reach_client import ReachClient
from p2pshare.net.reach_wire import read_body
from p2pshare_protocols import autonat
from p2pshare_protocols.autonat import DialDataRequest, DialDataResponse, DialRequest, DialResponse, DialStatus, Status
from tests.support_net import identified, network

ELSEWHERE = "/ip4/127.0.0.9/tcp/1"  # loopback, but not where the asker comes from; nobody listens there


def everywhere(address: str) -> bool:
    return True


async def until_reach(net: Network, wanted: Callable[[Reachability], bool]) -> Reachability:
    with trio.fail_after(20):
        while not wanted(found := net.reachability()):
            await net.reachability_changed(found)
    return net.reachability()


def plain(net: Network) -> str:
    return net.addresses()[0].split("/p2p/")[0]


async def asked(net: Network, peer_id: str, *addresses: str, nonce: int = 7) -> tuple[Stream, autonat.Message]:
    stream = await net.open_stream(peer_id, [autonat.DIAL_REQUEST])
    await stream.send_all(autonat.encode(DialRequest(addresses, nonce)))
    return stream, autonat.decode(await read_body(stream))


async def test_one_that_is_reached_learns_it_and_one_that_is_not_too() -> None:
    async with network(1, public=everywhere) as one, network(2, public=everywhere) as two:
        await one.connect(two.addresses()[0])
        assert (await until_reach(one, lambda reach: reach.state == "direct")).state == "direct"
        assert one.status()["reachable"] == "direct"
    async with network(3, public=everywhere) as three, network(4, public=everywhere) as four:
        three.listen_addresses = lambda: [ELSEWHERE]  # type: ignore[attr-defined]
        await three.connect(four.addresses()[0])
        assert (await until_reach(three, lambda reach: reach.state in ("no", "direct"))).state == "no"


async def test_without_an_outside_nothing_is_asked() -> None:
    async with network(1) as one, network(2) as two:
        await one.connect(two.addresses()[0])
        await identified(one, two.peer_id)
        assert one.reachability().state == "private"
        _, answer = await asked(one, two.peer_id, plain(one))
        assert answer == DialResponse(Status.DIAL_REFUSED)


async def test_another_address_is_dialled_only_after_data() -> None:
    async with network(1) as one, network(2, public=everywhere) as two:
        await one.connect(two.addresses()[0])
        stream, answer = await asked(one, two.peer_id, "/dns4/example.org/tcp/1", ELSEWHERE)
        assert isinstance(answer, DialDataRequest)
        assert answer.index == 1
        assert autonat.LEAST_DATA <= answer.count <= autonat.MOST_DATA
        part = autonat.encode(DialDataResponse(bytes(autonat.MAX_DATA)))
        for _ in range(-(-answer.count // autonat.MAX_DATA)):
            await stream.send_all(part)
        assert autonat.decode(await read_body(stream)) == DialResponse(Status.OK, 1, DialStatus.DIAL_ERROR)


async def test_who_sends_no_data_is_reset() -> None:
    async with network(1) as one, network(2, public=everywhere) as two:
        await one.connect(two.addresses()[0])
        stream, _ = await asked(one, two.peer_id, ELSEWHERE)
        await stream.send_all(autonat.encode(DialDataResponse(b"")))
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_exactly(1)


async def test_a_peer_asks_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach_server, "A_MINUTE_PER_PEER", 2)
    async with network(1) as one, network(2) as two:
        await one.connect(two.addresses()[0])
        answers = [(await asked(one, two.peer_id, plain(one)))[1] for _ in range(3)]
    assert [answer.status for answer in answers if isinstance(answer, DialResponse)] == [
        Status.DIAL_REFUSED,
        Status.DIAL_REFUSED,
        Status.REJECTED,
    ]


async def test_a_success_that_nobody_proved_does_not_count() -> None:
    """A server says OK and never dials; another says the nonce on the connection that we made."""

    async def liar(stream: Stream) -> None:
        request = autonat.decode(await read_body(stream))
        assert isinstance(request, DialRequest)
        back = await two.open_stream(stream.peer_id, [autonat.DIAL_BACK])
        await back.send_all(autonat.encode_dial_back(request.nonce))
        await back.receive_some(1)
        await stream.send_all(autonat.encode(DialResponse(Status.OK, 0, DialStatus.OK)))

    async with network(1) as one, network(2) as two:
        two.handle(autonat.DIAL_REQUEST, liar)
        client = ReachClient(one, public=everywhere, rng=random.Random(1))  # type: ignore[arg-type]
        await one.connect(two.addresses()[0])
        assert await client.ask(two.peer_id, [plain(one)]) is None


def test_failures_must_outnumber_what_was_proven() -> None:
    verdict = Verdict()
    assert verdict.judge(5, 0) == "unknown"
    verdict.add("a", True, 0)
    assert verdict.judge(5, 0) == "unknown"
    assert verdict.judge(1, 0) == "direct"
    for liar in "bcd":
        verdict.add(liar, False, 1)
    assert verdict.judge(5, 1) == "no"
    for witness in "efg":
        verdict.add(witness, True, 2)
    assert verdict.judge(5, 2) == "direct"
    assert verdict.judge(5, LASTS + 3) == "unknown"
