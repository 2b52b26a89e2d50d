"""Half-open connections, the table of open ones, addresses of peers and their pauses: all without I/O."""

from __future__ import annotations

import ipaddress
import resource
from typing import Any, Literal, cast

import pytest

from p2pshare.net import descriptors
from p2pshare.net.book import MAX_ADDRESSES, MAX_PEERS, AddressBook, Backoff
from p2pshare.net.connection import Connection
from p2pshare.net.guard import HalfOpenLimits, HalfOpenTable
from p2pshare.net.parts import Limits, limits_from
from p2pshare.net.table import GRACE_SECONDS, ConnectionTable
from tests.support_net import key_pair, network

PEER, OTHER = key_pair(1).peer_id, key_pair(2).peer_id


class Door:
    """A table of half-open connections, and who was dropped from it, by address."""

    def __init__(self, *, exempt: bool = False, **limits: int) -> None:
        self.table = HalfOpenTable(HalfOpenLimits(**limits), exempt_loopback=exempt)
        self.dropped: list[str] = []

    def enter(self, address: str) -> None:
        self.table.enter(ipaddress.ip_address(address), lambda: self.dropped.append(address))


def test_an_address_over_its_limit_drops_its_own_oldest() -> None:
    door = Door(per_address=2)
    door.enter("198.51.100.9")
    for _ in range(5):
        door.enter("192.0.2.1")
    assert door.dropped == ["192.0.2.1"] * 3
    assert len(door.table) == 3


def test_a_network_over_its_limit_drops_its_own_oldest() -> None:
    door = Door(per_network=3)
    door.enter("198.51.100.9")
    for host in range(5):
        door.enter(f"192.0.2.{host}")
    assert door.dropped == ["192.0.2.0", "192.0.2.1"]


def test_ipv6_counts_by_56_bits_and_a_host_by_64() -> None:
    door = Door(per_network=2)
    for subnet in range(3):
        door.enter(f"2001:db8:0:ab{subnet:02x}::1")
    assert door.dropped == ["2001:db8:0:ab00::1"]
    door = Door(per_address=2)
    for host in range(3):
        door.enter(f"2001:db8::{host + 1}")
    assert door.dropped == ["2001:db8::1"]


def test_when_the_house_is_full_the_fullest_network_gives_way() -> None:
    """A hundred and twenty-five networks that send silent connections do not shut out a newcomer."""
    door = Door()
    for net in range(125):
        for host in range(8):
            door.enter(f"10.0.{net}.{host}")
    assert len(door.table) == 128
    door.dropped.clear()
    door.enter("192.0.2.1")
    assert "192.0.2.1" not in door.dropped
    assert len(door.dropped) == 1
    assert len(door.table) == 128


def test_the_oldest_goes_when_all_are_alike() -> None:
    door = Door(total=3)
    for net in range(4):
        door.enter(f"10.0.{net}.1")
    assert door.dropped == ["10.0.0.1"]


def test_who_left_takes_no_place() -> None:
    table = HalfOpenTable(HalfOpenLimits(per_address=1))
    dropped: list[int] = []
    for number in range(3):
        entry = table.enter(ipaddress.ip_address("192.0.2.1"), lambda: dropped.append(1))
        assert entry is not None
        table.leave(entry)
        table.leave(entry)
        assert number < 3
    assert not dropped
    assert len(table) == 0


@pytest.mark.parametrize(("exempt", "dropped"), [(True, 0), (False, 2)])
def test_loopback_is_exempt_from_limits_by_address_only_where_private_is_allowed(exempt: bool, dropped: int) -> None:
    door = Door(exempt=exempt)
    for _ in range(10):
        door.enter("127.0.0.1")
    assert len(door.dropped) == dropped


class FakeConnection:
    """Of a connection, what the table looks at."""

    def __init__(
        self, peer: str, address: str, *, direction: Literal["in", "out"] = "in", idle: float = 0, busy: bool = False
    ) -> None:
        self.peer_id, self.address, self.direction = peer, address, direction
        self.idle_since, self.busy, self.closed = idle, busy, False


def table_of(*connections: FakeConnection, exempt: bool = False, **limits: Any) -> ConnectionTable:
    table = ConnectionTable(Limits(**limits), exempt_loopback=exempt)
    for connection in connections:
        table.add(cast(Connection, connection))
    return table


def room(table: ConnectionTable, newcomer: FakeConnection, now: float = 1000.0) -> tuple[bool, list[Any]]:
    return table.room_for(cast(Connection, newcomer), now)


def test_a_full_table_lets_the_longest_idle_one_go() -> None:
    old = FakeConnection("a", "/ip4/192.0.2.1/tcp/1", idle=5)
    new = FakeConnection("b", "/ip4/198.51.100.1/tcp/1", idle=50)
    table = table_of(new, old, connections=2)
    assert room(table, FakeConnection("c", "/ip4/203.0.113.1/tcp/1")) == (True, [old])


def test_a_busy_or_fresh_connection_is_never_taken() -> None:
    busy = FakeConnection("a", "/ip4/192.0.2.1/tcp/1", busy=True)
    fresh = FakeConnection("b", "/ip4/198.51.100.1/tcp/1", idle=1000 - GRACE_SECONDS / 2)
    table = table_of(busy, fresh, connections=2)
    assert room(table, FakeConnection("c", "/ip4/203.0.113.1/tcp/1")) == (False, [])
    assert table.refused == 1


def test_the_crowded_network_gives_way_before_ours_and_the_lonely() -> None:
    lonely = FakeConnection("a", "/ip4/203.0.113.1/tcp/1", idle=1)
    ours = FakeConnection("b", "/ip4/203.0.113.2/tcp/1", direction="out", idle=0)
    crowd = [FakeConnection(f"c{n}", f"/ip4/192.0.2.{n}/tcp/1", idle=100 + n) for n in range(3)]
    table = table_of(lonely, ours, *crowd, connections=5)
    assert room(table, FakeConnection("d", "/ip4/198.51.100.1/tcp/1")) == (True, [crowd[0]])


def test_one_network_cannot_fill_the_table() -> None:
    crowd = [FakeConnection(f"c{n}", f"/ip4/192.0.2.{n}/tcp/1", busy=True) for n in range(3)]
    table = table_of(*crowd, per_network=3)
    assert room(table, FakeConnection("d", "/ip4/192.0.2.99/tcp/1"))[0] is False
    assert room(table, FakeConnection("d", "/ip4/198.51.100.1/tcp/1")) == (True, [])


def test_one_peer_keeps_a_few_connections_and_its_newest_enters() -> None:
    mine = [FakeConnection(PEER, "/ip4/192.0.2.1/tcp/1", idle=n) for n in range(4)]
    assert room(table_of(*mine, per_peer=4), FakeConnection(PEER, "/ip4/192.0.2.1/tcp/2")) == (True, [mine[0]])


def test_first_and_last_of_a_peer_are_told() -> None:
    one, two = (cast(Connection, FakeConnection(PEER, "/ip4/192.0.2.1/tcp/1")) for _ in range(2))
    table = table_of()
    assert (table.add(one), table.add(two)) == (True, False)
    assert table.best(PEER) is one
    assert (table.remove(one), table.remove(one), table.remove(two), table.remove(two)) == (False, False, True, False)


def test_the_book_keeps_what_can_be_dialled() -> None:
    book = AddressBook(allow_private=False)
    good = "/ip4/8.8.8.8/tcp/4001"
    book.add(
        PEER,
        [
            f"{good}/p2p/{PEER}",
            f"/ip4/8.8.4.4/tcp/1/p2p/{OTHER}",  # another peer's
            "/ip4/192.168.1.1/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/8.8.8.8/udp/1/quic-v1",
            "nonsense",
        ],
        until=10,
    )
    assert book.of(PEER, 0) == [good]
    assert book.of(PEER, 10) == []
    book.add(OTHER, ["/ip4/192.168.1.1/tcp/1"], until=10, trusted=True)
    assert book.of(OTHER, 0) == ["/ip4/192.168.1.1/tcp/1"]


def test_the_book_is_bounded_and_the_latest_come_first() -> None:
    book = AddressBook(allow_private=False)
    addresses = [f"/ip4/8.8.8.8/tcp/{port}" for port in range(1, 50)]
    book.add(PEER, addresses, until=10)
    assert book.of(PEER, 0) == addresses[::-1][:MAX_ADDRESSES]
    for number in range(MAX_PEERS + 10):
        book.add(f"peer{number}", ["/dns4/example.com/tcp/1"], until=10)
    assert book.of(PEER, 0) == []


def test_an_address_pauses_longer_each_time_and_is_forgiven() -> None:
    backoff = Backoff()
    now = 0.0
    pauses = []
    for _ in range(12):
        backoff.failed("/a", now)
        pause = next(p for p in (2.0**n for n in range(10)) if backoff.ready("/a", now + min(p, 300)))
        pauses.append(min(pause, 300))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert backoff.ready("/b", now)
    backoff.succeeded("/a")
    assert backoff.ready("/a", now)


def test_strangers_cannot_take_the_places_for_peers_that_we_dial() -> None:
    strangers = [FakeConnection(f"s{n}", f"/ip4/10.{n}.0.1/tcp/1", busy=True) for n in range(6)]
    table = table_of(*strangers, connections=8)
    assert room(table, FakeConnection("x", "/ip4/192.0.2.1/tcp/1"))[0] is False
    assert room(table, FakeConnection("x", "/ip4/192.0.2.1/tcp/1", direction="out")) == (True, [])


def test_one_address_cannot_fill_its_network() -> None:
    crowd = [FakeConnection(f"c{n}", "/ip4/192.0.2.1/tcp/1", busy=True) for n in range(2)]
    table = table_of(*crowd, per_address=2)
    assert room(table, FakeConnection("d", "/ip4/192.0.2.1/tcp/9"))[0] is False
    assert room(table, FakeConnection("d", "/ip4/192.0.2.2/tcp/9")) == (True, [])


def test_idle_connections_are_closed_from_the_high_water_to_the_low() -> None:
    idle = [FakeConnection(f"p{n}", f"/ip4/10.{n}.0.1/tcp/1", idle=n) for n in range(9)]
    table = table_of(*idle, connections=10, high_water=8, low_water=6)
    table.protect("p0", "bootstrap")
    assert table.trim(1000.0) == [cast(Any, one) for one in idle[1:4]]
    table.unprotect("p0", "bootstrap")
    assert table.trim(1000.0)[0] is idle[0]
    assert table_of(*idle[:8], connections=10, high_water=8, low_water=6).trim(1000.0) == []
    assert (Limits().high_water, Limits().low_water) == (192, 128)


def test_a_protected_peer_is_not_let_go_for_another() -> None:
    one = FakeConnection("a", "/ip4/192.0.2.1/tcp/1")
    table = table_of(one, connections=1)
    table.protect("a", "x")
    table.protect("a", "y")
    table.unprotect("a", "x")
    assert room(table, FakeConnection("b", "/ip4/203.0.113.1/tcp/1"))[0] is False
    table.unprotect("a", "y")
    assert room(table, FakeConnection("b", "/ip4/203.0.113.1/tcp/1")) == (True, [one])


def test_each_address_of_loopback_is_a_network_where_it_is_not_counted() -> None:
    """So that a flood from one of them drops its own, also in a closed network."""
    door = Door(exempt=True, total=4)
    door.enter("127.0.0.1")
    for _ in range(50):
        door.enter("127.0.0.9")
    assert set(door.dropped) == {"127.0.0.9"}


def test_limits_are_read_from_the_configuration() -> None:
    limits = limits_from({"limits.connections": 100, "limits.half_open": 16, "limits.connections_per_peer": 2})
    assert (limits.connections, limits.inbound, limits.per_peer) == (100, 75, 2)
    assert (limits.half_open.total, limits.half_open.per_network, limits.half_open.per_address) == (16, 16, 8)
    assert limits_from({}) == Limits()


def test_an_address_that_makes_its_own_go_too_fast_is_refused_and_recovers() -> None:
    table = HalfOpenTable(HalfOpenLimits(per_address=2, churn=10))
    flood, other = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("192.0.2.2")
    entered = [table.enter(flood, lambda: None, 5.0) for _ in range(100)]
    assert sum(entry is not None for entry in entered) == 2 + 40  # four seconds' worth
    assert (table.dropped, table.refused, len(table)) == (40, 58, 2)
    assert table.enter(other, lambda: None, 5.0) is not None
    assert table.enter(flood, lambda: None, 5.5) is not None


async def test_the_status_tells_the_limits_and_what_they_refused() -> None:
    async with network(1, limits=Limits(connections=40, per_address=7)) as net:
        status = net.status()
    limits: Any = status["limits"]
    assert (limits["connections"], limits["inbound"], limits["per_address"]) == (40, 30, 7)
    assert (limits["high_water"], limits["low_water"], limits["half_open"]) == (30, 20, 128)
    assert status["refused"] == {"half_open": 0, "connections": 0, "descriptors": 0, "streams": 0}
    assert (status["trimmed"], status["protected"], status["handler_errors"]) == (0, 0, 0)


def test_descriptors_are_spared_for_the_rest_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    few: Any = (64, 64)
    monkeypatch.setattr(resource, "getrlimit", lambda which: few)
    assert [descriptors.spare(number) for number in (3, 47, 48, 63)] == [True, True, False, False]
    few = (1024, 1024)
    assert [descriptors.spare(number) for number in (959, 960)] == [True, False]
    with pytest.raises(OSError, match="Too many open files"):
        descriptors.check(960)
    few = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert descriptors.spare(10**6)
