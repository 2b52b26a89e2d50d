"""Listen addresses, and how the first peers are found: configured ones and those of earlier runs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
import trio

from p2pshare.errors import ConfigError
from p2pshare.net import first_peers
from p2pshare.net.addresses import advertised, from_socket, interface_ips, listen_target
from tests.support_net import key_pair, network, until

IPS = [ipaddress.ip_address(ip) for ip in ("127.0.0.1", "192.168.1.7", "203.0.113.4", "::1", "2001:db8::4")]
V4_ANY, V6_ANY = ipaddress.ip_address("0.0.0.0"), ipaddress.ip_address("::")


class Memory:
    """Peers of earlier runs, in a list."""

    def __init__(self, *known: tuple[str, Sequence[str], float]) -> None:
        self.rows = list(known)

    def spoke(self, peer_id: str, session: str, ours: bool, learned: float) -> None:
        pass

    def spoken(self) -> list[tuple[str, str, bool, float]]:
        return []

    def remember(self, peer_id: str, addresses: Sequence[str], seen: float) -> None:
        self.rows.append((peer_id, addresses, seen))

    def known(self, limit: int) -> Sequence[tuple[str, Sequence[str], float]]:
        return self.rows[:limit]


def test_unspecified_addresses_become_those_of_the_interfaces_without_loopback() -> None:
    assert advertised([(V4_ANY, 4001)], IPS, allow_private=False) == [
        "/ip4/192.168.1.7/tcp/4001",
        "/ip4/203.0.113.4/tcp/4001",
    ]
    assert advertised([(V6_ANY, 4001)], IPS, allow_private=False) == ["/ip6/2001:db8::4/tcp/4001"]


def test_loopback_is_listed_when_it_is_all_there_is_or_when_private_is_allowed() -> None:
    assert advertised([(IPS[0], 1)], IPS, allow_private=False) == ["/ip4/127.0.0.1/tcp/1"]
    assert advertised([(V4_ANY, 1)], IPS[:1], allow_private=False) == ["/ip4/127.0.0.1/tcp/1"]
    assert advertised([(V4_ANY, 1)], IPS, allow_private=True)[-1] == "/ip4/127.0.0.1/tcp/1"
    assert advertised([], IPS, allow_private=True) == []


def test_this_machine_has_loopback_among_its_interfaces() -> None:
    assert ipaddress.ip_address("127.0.0.1") in interface_ips()


def test_socket_addresses_become_multiaddrs() -> None:
    assert from_socket("192.0.2.1", 5) == "/ip4/192.0.2.1/tcp/5"
    assert from_socket("::ffff:192.0.2.1", 5) == "/ip4/192.0.2.1/tcp/5"
    assert from_socket("fe80::1%eth0", 5) == "/ip6/fe80::1/tcp/5"


@pytest.mark.parametrize(
    "address", ["", "/ip4/1.2.3.4", "/dns4/example.com/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1", "/ip4/1.2.3.4/tcp/1/ws"]
)
def test_what_cannot_be_listened_on_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigError):
        listen_target(address)


@pytest.mark.parametrize("address", ["nonsense", "/ip4/192.0.2.1/tcp/1"])
async def test_a_bad_bootstrap_address_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigError, match=r"network\.bootstrap"):
        async with network(1, bootstrap=[address]):
            pass


async def test_a_bootstrap_peer_is_connected() -> None:
    async with network(2) as two, network(1, bootstrap=two.addresses()) as one:
        await until(one, lambda: one.is_connected(two.peer_id))


async def test_a_bootstrap_peer_that_comes_later_is_connected_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_peers, "FIRST_PAUSE", 0.05)
    async with network(2) as two:
        [address] = two.addresses()
    async with network(1, bootstrap=[address]) as one, network(2, listen=[address.split("/p2p/")[0]]) as two:
        await until(one, lambda: one.is_connected(two.peer_id))


async def test_a_bootstrap_peer_that_is_ourselves_is_no_trouble() -> None:
    async with network(1) as one:
        addresses = one.addresses()
    async with network(1, bootstrap=addresses) as one, network(2) as two:
        await two.connect(one.addresses()[0])


async def test_peers_of_earlier_runs_are_dialled_and_those_met_are_remembered() -> None:
    memory = Memory()
    async with network(2) as two:
        async with network(1, remembered=memory) as one:
            await one.connect(two.addresses()[0])
            await until(one, lambda: bool(one.protocols_of(two.peer_id)))
            assert [row[:2] for row in memory.rows] == [(two.peer_id, [two.addresses()[0].split("/p2p/")[0]])]
        async with network(1, remembered=memory) as one:
            await until(one, lambda: one.is_connected(two.peer_id))


async def test_many_dead_remembered_peers_hold_up_nothing() -> None:
    dead = [(key_pair(n).peer_id, ["/ip4/127.0.0.1/tcp/1"], 0.0) for n in range(100, 200)]
    async with network(2) as two:
        alive = (two.peer_id, [two.addresses()[0].split("/p2p/")[0]], 0.0)
        async with network(1, remembered=Memory(*dead[:60], alive, *dead[60:])) as one:
            with trio.fail_after(10):
                await until(one, lambda: one.is_connected(two.peer_id))
