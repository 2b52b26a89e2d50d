"""A multiaddr has one binary form and one text form, and a stranger's bytes cause one kind of error."""

from __future__ import annotations

import ipaddress
import random

import pytest

from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError

PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
PEER_BINARY = "a50326" + "002408011220"  # /p2p, 38 bytes: identity multihash of an Ed25519 public key message

GOLDEN = {
    "/ip4/127.0.0.1/tcp/4001": "047f000001060fa1",
    "/ip6/2001:db8::1/tcp/443": "2920010db80000000000000000000000010601bb",
    "/ip6zone/eth0/ip6/fe80::1/tcp/80": "2a0465746830" + "29fe800000000000000000000000000001" + "060050",
    "/ip4/192.0.2.1/udp/4001/quic-v1": "04c0000201" + "91020fa1" + "cd03",
    "/dns4/example.com/tcp/443/wss": "360b6578616d706c652e636f6d" + "0601bb" + "de03",
    "/dnsaddr/bootstrap.libp2p.io": "3813626f6f7473747261702e6c69627032702e696f",
    "/unix/run/x.sock": "90030b2f72756e2f782e736f636b",
    "/ip4/1.2.3.4/tcp/1/tls/sni/a.org/ws": "0401020304" + "060001" + "c003" + "c10305612e6f7267" + "dd03",
    "/ip4/1.2.3.4/tcp/1/noise": "0401020304" + "060001" + "c603",
    "/ip4/1.2.3.4/udp/9/webrtc-direct": "0401020304" + "91020009" + "9802",
    "/ip4/1.2.3.4/tcp/80/http": "0401020304" + "060050" + "e003",
}


@pytest.mark.parametrize(("text", "binary"), GOLDEN.items())
def test_golden_bytes_both_ways(text: str, binary: str) -> None:
    assert multiaddr.to_binary(text).hex() == binary
    assert multiaddr.to_text(bytes.fromhex(binary)) == text


def test_peer_ids_and_relayed_addresses() -> None:
    text = f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit/p2p/{PEER}"
    binary = multiaddr.to_binary(text)
    assert binary.hex().startswith("04c0000201060fa1" + PEER_BINARY)
    assert multiaddr.to_text(binary) == text
    assert multiaddr.split_peer(text) == (f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit", PEER)
    assert multiaddr.to_text(multiaddr.to_binary(f"/ipfs/{PEER}")) == f"/p2p/{PEER}"
    assert multiaddr.split_peer(f"/ipfs/{PEER}") == ("", PEER)
    assert multiaddr.split_peer("/ip4/1.2.3.4/tcp/1") == ("/ip4/1.2.3.4/tcp/1", None)


def test_certificate_hashes_are_base64url() -> None:
    text = "/ip4/1.2.3.4/udp/1/quic-v1/webtransport/certhash/uEiAkH5a4DPGKUuOBjYw0CgwjvcJCJMD2K_1aluKR_tpevQ"
    assert multiaddr.to_text(multiaddr.to_binary(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ip4/1.2.3.4",
        "/",
        "/ip4",
        "/ip4/1.2.3",
        "/ip4/1.2.3.4/",
        "/ip4/1.2.3.4//tcp/1",
        "/ip4/1.2.3.4/tcp/65536",
        "/ip4/1.2.3.4/tcp/-1",
        "/ip4/1.2.3.4/tcp/\u0661",
        "/ip6/fe80::1%eth0/tcp/1",
        "/nope/1",
        "/dns4/a b/tcp/1",
        "/dns4/\x1b[2J/tcp/1",
        "/p2p/notapeer",
        "/p2p/bafy",
        "/certhash/zabc",
        "/unix",
        "/dns/" + "a." * 200 + "/tcp/1",
        "/tcp/1" * 25,
        "/tcp/1" * 1000,
    ],
)
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        multiaddr.to_binary(text)
    assert multiaddr.is_private(text)
    assert not multiaddr.dialable(text)


@pytest.mark.parametrize(
    "binary",
    ["", "04", "047f0000", "ff", "00", "8400", "35ffffffff0f61", "350161ff", "3500", "35021b5b", "a5030100"],
)
def test_bad_bytes_are_refused(binary: str) -> None:
    with pytest.raises(RemoteProtocolError):
        multiaddr.to_text(bytes.fromhex(binary))


def test_no_bytes_raise_anything_else_and_what_is_read_is_canonical() -> None:
    rng = random.Random(7)
    goods = [bytes.fromhex(binary) for binary in GOLDEN.values()]
    read = 0
    for _ in range(5000):
        junk = bytearray(rng.choice(goods) + rng.choice(goods))
        for _ in range(rng.randrange(3)):
            junk[rng.randrange(len(junk))] = rng.randrange(256)
        try:
            text = multiaddr.to_text(bytes(junk))
        except RemoteProtocolError:
            continue
        read += 1
        if "/unix/" not in text:  # swallows the rest as text
            assert multiaddr.to_binary(text) == bytes(junk)
    assert read > 500


def test_what_is_read_off_an_address() -> None:
    assert multiaddr.ip_of("/ip6zone/eth0/ip6/fe80::1/tcp/80") == ipaddress.ip_address("fe80::1")
    assert multiaddr.ip_of("/dns4/a.org/tcp/80") is None
    assert multiaddr.tcp_port_of("/dns4/a.org/tcp/80") == 80
    assert multiaddr.tcp_port_of("/ip6zone/eth0/ip6/fe80::1/tcp/80") == 80
    assert multiaddr.tcp_port_of("/ip4/1.2.3.4/udp/80") is None


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("ip4/127.0.0.1", True),
        ("ip4/10.1.2.3", True),
        ("ip4/100.64.0.1", True),
        ("ip4/169.254.1.1", True),
        ("ip4/0.0.0.0", True),
        ("ip4/224.0.0.1", True),
        ("ip6/::1", True),
        ("ip6/fd00::1", True),
        ("ip6/fe80::1", True),
        ("ip6/::ffff:192.168.1.1", True),
        ("ip6/64:ff9b::a00:1", True),
        ("ip6/2002:a00:1::", True),
        ("dns/localhost", True),
        ("dns4/nas.local", True),
        ("dns4/nas", True),
        ("ip4/8.8.8.8", False),
        ("ip6/2606:4700::1", False),
        ("ip6/::ffff:8.8.8.8", False),
        ("dns4/example.com", False),
    ],
)
def test_private_addresses(host: str, private: bool) -> None:
    assert multiaddr.is_private(f"/{host}/tcp/1") is private


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("/ip4/127.0.0.1/tcp/4001", True),
        (f"/dns6/a.org/tcp/4001/p2p/{PEER}", True),
        ("/ip4/0.0.0.0/tcp/4001", False),
        ("/ip6/::/tcp/4001", False),
        ("/ip4/1.2.3.4/tcp/0", False),
        ("/ip4/1.2.3.4/udp/1/quic-v1", False),
        ("/ip4/1.2.3.4/tcp/1/ws", False),
        (f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit", False),
        (f"/p2p/{PEER}", False),
        ("/ip4/1.2.3.4", False),
    ],
)
def test_dialable_addresses(text: str, yes: bool) -> None:
    assert multiaddr.dialable(text) is yes
