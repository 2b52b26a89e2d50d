"""Peers on the LAN: the TXT record, what strangers may put into it, and two nodes that find each other."""

from __future__ import annotations

import socket

import pytest
import trio

from p2pshare.net import mdns
from tests.support_net import key_pair, network, until

PEER = key_pair(1).peer_id
ADDRESS = "/ip4/192.168.1.7/tcp/4001"


def multicast_works_on_loopback() -> bool:
    """Joins the mDNS group on loopback and hears itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            sock.bind(("", 0))
            sock.settimeout(2)
            sock.sendto(b"x", ("224.0.0.251", sock.getsockname()[1]))
            return sock.recv(1) == b"x"
        except OSError:
            return False


def test_the_record_has_the_form_of_the_specification() -> None:
    entry = f"dnsaddr={ADDRESS}/p2p/{PEER}".encode()
    assert mdns.encode_text([f"{ADDRESS}/p2p/{PEER}"]) == bytes([len(entry)]) + entry
    assert mdns.decode_text(mdns.encode_text([f"{ADDRESS}/p2p/{PEER}"])) == {PEER: [ADDRESS]}


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\xff",
        b"\x05abc",
        b"\x09dnsaddr=\xff",
        b"\x08dnsaddr=",
        mdns.encode_text([ADDRESS]),  # names no peer
        mdns.encode_text([f"/ip4/0.0.0.0/tcp/1/p2p/{PEER}"]),  # cannot be dialled
        mdns.encode_text([f"/ip4/192.168.1.7/udp/1/quic-v1/p2p/{PEER}"]),
    ],
)
def test_a_record_that_is_none_of_ours_gives_nothing(hostile: bytes) -> None:
    assert mdns.decode_text(hostile) == {}


def test_a_record_gives_a_bounded_number_of_addresses() -> None:
    many = b"".join(mdns.encode_text([f"/ip4/10.0.0.1/tcp/{port}/p2p/{PEER}"]) for port in range(1, 90))
    assert len(mdns.decode_text(many)[PEER]) == mdns.MAX_ADDRESSES


def test_an_address_that_does_not_fit_a_string_is_left_out() -> None:
    long = f"/dns/{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 60}/tcp/1/p2p/{PEER}"
    assert mdns.encode_text([long]) == b""


@pytest.mark.skipif(not multicast_works_on_loopback(), reason="no multicast on loopback here")
async def test_two_nodes_on_one_machine_find_each_other() -> None:
    async with network(1, rendezvous_lan=True) as one, network(2, rendezvous_lan=True) as two:
        await until(one, lambda: one.is_connected(two.peer_id))
        await until(two, lambda: two.is_connected(one.peer_id))


async def test_without_ipv4_the_network_goes_on() -> None:
    async with network(1, listen=["/ip6/::1/tcp/0"], rendezvous_lan=True) as one:
        assert one.addresses()


async def test_a_name_that_cannot_be_looked_up_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    both = trio.Event()

    def text_of(zeroconf: object, name: str) -> bytes:
        asked.append(name)
        if len(asked) == 1:
            raise AssertionError("what nobody thought of")
        trio.from_thread.run_sync(both.set)
        return b""

    monkeypatch.setattr(mdns, "_text_of", text_of)
    async with network(1) as net, trio.open_nursery() as nursery:
        found = mdns._Found(net)  # type: ignore[arg-type]
        nursery.start_soon(found._work, None)
        found.heard("strange")
        found.heard("good")
        with trio.fail_after(5):
            await both.wait()
        nursery.cancel_scope.cancel()
    assert asked == ["strange", "good"]
