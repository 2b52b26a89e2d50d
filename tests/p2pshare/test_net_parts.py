"""The small parts: accepting without descriptors, rates, events to a subscriber that lags, a disk that is full."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
import trio.testing

from p2pshare.errors import DiskFull, LocalError
from p2pshare.net import tcp
from p2pshare.net.api import PeerEvent
from p2pshare.net.events import PeerEvents
from p2pshare.net.rates import Rates
from tests.support_net import identified, network, pair


class Listener:
    """Gives what it is told to: an error number to raise, or a name to accept."""

    def __init__(self, *script: int | str) -> None:
        self.script = list(script)

    def fileno(self) -> int:
        raise OSError(errno.EBADF, "not a real one")

    async def accept(self) -> tuple[Any, tuple[str, int]]:
        await trio.lowlevel.checkpoint()
        if not self.script:
            raise trio.ClosedResourceError
        what = self.script.pop(0)
        if isinstance(what, int):
            raise OSError(what, "an error")
        return what, ("192.0.2.1", 1)


async def test_running_out_of_descriptors_pauses_accepting_and_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    taken: list[object] = []
    listener = Listener("a", errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, "b")
    start = trio.current_time()
    await tcp.accept_forever(cast(Any, listener), lambda sock, peer: taken.append(sock))
    assert taken == ["a", "b"]
    assert trio.current_time() - start == 0.4


async def test_connections_that_wait_are_taken_together() -> None:
    [listener] = await tcp.bind(["/ip4/127.0.0.1/tcp/0"])
    taken: list[trio.socket.SocketType] = []
    waiting = [await trio.open_tcp_stream(*listener.getsockname()) for _ in range(70)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tcp.accept_forever, listener, lambda sock, peer: taken.append(sock))
        await trio.testing.wait_all_tasks_blocked()
        assert len(taken) == 70
        late = await trio.open_tcp_stream(*listener.getsockname())
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(taken) == 71
        nursery.cancel_scope.cancel()
    for one in (*waiting, late):
        await one.aclose()
    for sock in (*taken, listener):
        sock.close()


class WithoutIPv6(trio.abc.SocketFactory):
    """A machine whose kernel has no IPv6."""

    def socket(self, family: int = -1, type: int = -1, proto: int = -1) -> Any:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return trio.socket.from_stdlib_socket(socket.socket(family, type, proto))


async def test_without_ipv6_the_rest_is_listened_on() -> None:
    trio.socket.set_custom_socket_factory(WithoutIPv6())
    sockets = await tcp.bind(["/ip4/127.0.0.1/tcp/0", "/ip6/::/tcp/0"])
    assert [str(tcp.bound_to(sock)[0]) for sock in sockets] == ["127.0.0.1"]
    for sock in sockets:
        sock.close()
    for asked_for in (["/ip6/::/tcp/0"], ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]):
        with pytest.raises(LocalError, match="/ip6/::"):
            await tcp.bind(asked_for)


async def test_listening_nowhere_still_dials() -> None:
    async with network(1, listen=[], rendezvous_lan=True) as one, network(2) as two:
        assert one.addresses() == []
        await one.connect(two.addresses()[0])
        await identified(one, two.peer_id)


async def test_rates_are_bytes_a_second_over_the_last_seconds(autojump_clock: trio.testing.MockClock) -> None:
    rates, moved = Rates(), [0, 0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rates.sample, lambda: (moved[0], moved[1]))
        await trio.sleep(0.5)
        for _ in range(10):
            moved[0] += 1000
            moved[1] += 500
            await trio.sleep(1)
        assert rates.per_second == (1000, 500)
        await trio.sleep(10)
        assert rates.per_second == (0, 0)
        nursery.cancel_scope.cancel()


def test_bytes_of_ended_connections_still_count() -> None:
    rates = Rates()
    rates.ended((5, 7))
    assert rates.total([(1, 1), (1, 1)]) == (7, 9)


async def test_a_subscriber_that_lags_loses_the_oldest() -> None:
    events = PeerEvents(capacity=2)
    with events.subscribe() as slow, events.subscribe() as quick:
        for number in range(4):
            events.publish(PeerEvent("connected", str(number)))
            assert (await quick.receive()).peer_id == str(number)
        assert [(await slow.receive()).peer_id for _ in range(2)] == ["2", "3"]
    events.publish(PeerEvent("connected", "5"))


class FullDisk:
    def spoke(self, peer_id: str, session: str, ours: bool, learned: float) -> None:
        pass

    def spoken(self) -> list[tuple[str, str, bool, float]]:
        return []

    def remember(self, peer_id: str, addresses: Sequence[str], seen: float) -> None:
        raise DiskFull("no room")

    def known(self, limit: int) -> Sequence[tuple[str, Sequence[str], float]]:
        return []


async def test_a_peer_that_cannot_be_remembered_stays() -> None:
    async with network(2) as two, network(1, remembered=FullDisk()) as one:
        await one.connect(two.addresses()[0])
        await identified(one, two.peer_id)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert one.is_connected(two.peer_id)


async def test_status_tells_where_it_listens_and_what_it_moved() -> None:
    async with pair() as (one, two):
        status = one.status()
        assert status["listen"] == one.addresses()
        assert status["reachable"] == "unknown"
        assert status["connections"] == 1
        assert set(cast(dict[str, int], status["rates"])) == {"in", "out"}
        assert two.peer_id != one.peer_id


async def test_the_interfaces_are_not_read_each_time_a_stranger_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def read() -> list[Any]:
        reads.append(1)
        return []

    monkeypatch.setattr("p2pshare.net.switch.interface_ips", read)
    async with network(1) as one:
        for _ in range(100):
            one.addresses()
    assert len(reads) == 1
