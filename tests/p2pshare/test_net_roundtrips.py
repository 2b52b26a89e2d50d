"""How many answers a dial and a request wait for: counted as turns of the bytes on a relay between two nodes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from p2pshare.errors import RemoteError
from p2pshare.net import own
from p2pshare.net.api import Network, Stream
from p2pshare.net.switch import Switch
from p2pshare_protocols.noise_cipher import NOISE, NOISE_AESGCM
from tests.support_net import identified, network, until

ECHO = "/p2pshare/test-echo/1"
PLAIN = "/test/plain/1"
ABSENT = "/p2pshare/absent/1"


class Relay:
    """Passes bytes on between a dialler and a node, and counts how often the direction turned."""

    def __init__(self, target: int) -> None:
        self.turns: list[str] = []
        self.connections = 0
        self.streams: list[Stream] = []  # of the exchanges over it
        self._target = target

    def told(self, who: str) -> None:
        if not self.turns or self.turns[-1] != who:
            self.turns.append(who)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with (
            stream,
            await trio.open_tcp_stream("127.0.0.1", self._target) as onward,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._pass, "dialler", stream, onward)
            nursery.start_soon(self._pass, "node", onward, stream)

    async def _pass(self, who: str, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with_errors = (trio.BrokenResourceError, trio.ClosedResourceError)
        try:
            while data := await source.receive_some():
                self.told(who)
                await sink.send_all(data)
            await sink.send_eof()
        except with_errors:
            await trio.aclose_forcefully(sink)


async def echo(stream: Stream) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)


async def exchange(relay: Relay, net: Network, peer_id: str, *protocols: str) -> str:
    """A request and its answer. The stream stays open: its end would take a turn on the wire at some later time."""
    stream = await net.open_stream(peer_id, protocols)
    relay.streams.append(stream)
    await stream.send_all(b"asked")
    assert await stream.receive_exactly(5) == b"asked"
    return stream.protocol


@asynccontextmanager
async def relayed(**options: Any) -> AsyncIterator[tuple[Network, Network, Relay]]:
    """Node 1, and node 2 behind a relay at the only address that node 1 knows of it."""
    async with network(1) as one, network(2, **options) as two, trio.open_nursery() as nursery:
        for protocol in (ECHO, PLAIN):
            two.handle(protocol, echo)
        relay = Relay(int(two.addresses()[0].split("/")[4]))
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, relay.serve, [listener])
        port = listener.socket.getsockname()[1]
        one.add_addresses(two.peer_id, [f"/ip4/127.0.0.1/tcp/{port}"])
        yield one, two, relay
        nursery.cancel_scope.cancel()


def waits_until_answer(relay: Relay) -> int:
    """Turns from the dialler to the node and back, until the answer: one for each round trip after TCP's own."""
    return relay.turns.count("node")


def with_aes(monkeypatch: pytest.MonkeyPatch, *answers: bool) -> None:
    """Whether the first node made, the second, ... has AES instructions."""
    given = itertools.chain(answers, itertools.repeat(answers[-1]))
    monkeypatch.setattr(own.session, "has_aes_instructions", lambda: next(given))


@pytest.fixture(autouse=True)
def no_identify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the request under test takes turns on the wire. Tests that need identify undo it."""

    async def nothing(self: object, connection: object) -> None:
        return

    monkeypatch.setattr("p2pshare.net.attend.Attendant.attend", nothing)
    monkeypatch.setattr("p2pshare.net.muxer_ping.Pings.keep_alive", _never_dead)


async def _never_dead(self: object) -> bool:
    await trio.sleep_forever()
    return False


async def test_a_first_dial_to_one_of_ours_waits_for_three_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        assert waits_until_answer(relay) == 3  # session, Noise, request
        assert one.peers()[0].security == NOISE_AESGCM


async def test_a_dial_to_one_of_ours_that_is_known_waits_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        await one.disconnect(two.peer_id)
        await until(two, lambda: not two.is_connected(one.peer_id))
        relay.turns.clear()
        await exchange(relay, one, two.peer_id, ECHO)
        assert waits_until_answer(relay) == 2  # session with Noise, request
        assert relay.connections == 2


async def test_a_peer_that_is_not_ours_costs_no_round_trip_for_our_own_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True, False)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, PLAIN)
        assert waits_until_answer(relay) == 4  # session, Noise, stream, request
        assert one.peers()[0].security == NOISE


async def test_nothing_goes_ahead_towards_a_peer_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first packet to a stranger has proposals only, and the request waits for the stream's agreement."""
    with_aes(monkeypatch, False)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, PLAIN)
        await one.disconnect(two.peer_id)
        await until(two, lambda: not two.is_connected(one.peer_id))
        relay.turns.clear()
        await exchange(relay, one, two.peer_id, PLAIN)
        assert waits_until_answer(relay) == 4


async def test_a_peer_that_lost_our_suite_is_dialled_again_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True, False)
    async with relayed() as (one, two, relay):
        assert isinstance(one, Switch)
        one._upgrader.known.learn(two.peer_id, NOISE_AESGCM)
        await exchange(relay, one, two.peer_id, PLAIN)
        assert relay.connections == 2
        assert one._upgrader.known.session_of(two.peer_id) is None
        assert one.peers()[0].security == NOISE


async def test_a_refusal_is_an_error_at_the_first_read_and_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        stream = await one.open_stream(two.peer_id, [ABSENT])
        await stream.send_all(b"P" * 200_000)
        for _ in range(2):
            with pytest.raises(RemoteError, match="does not speak /p2pshare/absent/1") as caught:
                await stream.receive_some(100)
            assert caught.value.kind == "failed"
        with pytest.raises(RemoteError):
            await stream.send_all(b"more")
        await stream.aclose()
        assert await exchange(relay, one, two.peer_id, ECHO) == ECHO


async def test_a_refusal_that_comes_while_much_is_sent_is_told_to_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        async with await one.open_stream(two.peer_id, [ABSENT]) as stream:
            with trio.fail_after(5), pytest.raises(RemoteError, match="does not speak"):
                while True:
                    await stream.send_all(b"\x00" * 1_000_000)


async def test_a_read_of_the_answer_that_is_cancelled_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        async with await one.open_stream(two.peer_id, [ECHO]) as stream:
            for _ in range(3):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await stream.receive_some(10)
            await stream.send_all(b"0123456789" * 20_000)
            await stream.send_eof()
            got = bytearray()
            while data := await stream.receive_some(7001):
                got += data
            assert got == b"0123456789" * 20_000


async def test_what_was_written_is_delivered_when_the_stream_is_closed_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        heard: list[bytes] = []
        done = trio.Event()

        async def hear(stream: Stream) -> None:
            while data := await stream.receive_some(65536):
                heard.append(data)
            done.set()

        two.handle("/p2pshare/test-hear/1", hear)
        async with await one.open_stream(two.peer_id, ["/p2pshare/test-hear/1"]) as stream:
            await stream.send_all(b"told" * 50_000)
        with trio.fail_after(5):
            await done.wait()
        assert b"".join(heard) == b"told" * 50_000


async def test_a_choice_of_protocols_is_asked_for_until_identify_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        assert await exchange(relay, one, two.peer_id, ABSENT, ECHO) == ECHO
        relay.turns.clear()
        [connection] = [c for c in one.connections() if c.peer_id == two.peer_id]  # type: ignore[attr-defined]
        connection.protocols = frozenset({ECHO})
        assert await exchange(relay, one, two.peer_id, ABSENT, ECHO) == ECHO
        assert waits_until_answer(relay) == 1


async def test_a_protocol_told_by_identify_is_taken_for_granted_without_our_suite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_aes(monkeypatch, False)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, PLAIN)
        [connection] = [c for c in one.connections() if c.peer_id == two.peer_id]  # type: ignore[attr-defined]
        connection.protocols = frozenset({PLAIN})
        relay.turns.clear()
        await exchange(relay, one, two.peer_id, PLAIN)
        assert waits_until_answer(relay) == 1


async def test_status_says_how_connections_are_paced() -> None:
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        [(name, count)] = dict(one.status()["congestion"]).items()  # type: ignore[call-overload]
        assert (bool(name), count) == (True, 1)


async def test_identify_marks_our_nodes_that_have_no_aes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with_aes(monkeypatch, False)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        await identified(one, two.peer_id)
        assert isinstance(one, Switch)
        assert one._upgrader.known.session_of(two.peer_id) == NOISE


async def test_a_new_stream_between_our_nodes_takes_megabytes_before_any_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long path is filled from the start. Without our suite the first 256 KiB have to be used up first."""
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        sent, heard = trio.Event(), trio.Event()
        counted = 0

        async def wait(stream: Stream) -> None:
            nonlocal counted
            await sent.wait()
            while data := await stream.receive_some(65536):
                counted += len(data)
            heard.set()

        two.handle("/p2pshare/test-wait/1", wait)
        async with await one.open_stream(two.peer_id, ["/p2pshare/test-wait/1"]) as stream:
            with trio.fail_after(10):
                await stream.send_all(bytes(3 << 20))
            sent.set()
            await stream.send_eof()
            with trio.fail_after(10):
                await heard.wait()
        assert counted == 3 << 20
