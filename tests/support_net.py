"""Networks on loopback for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.net import open_network
from p2pshare.net.api import Network
from p2pshare.net.dialer import dial_tcp
from p2pshare.net.layers import Muxer
from p2pshare.net.own import own_muxers, own_sessions
from p2pshare.net.upgrade import Upgrader
from p2pshare_protocols import multiaddr
from p2pshare_protocols.peerid import peer_id_from_ed25519

LOOPBACK = "/ip4/127.0.0.1/tcp/0"


@dataclass(frozen=True)
class KeyPair:
    """An identity with a key that is the same in every run: node 1, node 2, …"""

    private: Ed25519PrivateKey
    public: bytes
    peer_id: str


def key_pair(number: int) -> KeyPair:
    private = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
    public = private.public_key().public_bytes_raw()
    return KeyPair(private, public, peer_id_from_ed25519(public))


@asynccontextmanager
async def network(number: int, **options: Any) -> AsyncIterator[Network]:
    """Node `number`, listening on a free port of loopback."""
    options = {"listen": [LOOPBACK], "allow_private_addresses": True, "agent": f"test/{number}", **options}
    async with open_network(key_pair(number), **options) as net:
        yield net


@asynccontextmanager
async def pair(**options: Any) -> AsyncIterator[tuple[Network, Network]]:
    """Two networks, the first connected to the second."""
    async with network(1, **options) as one, network(2, **options) as two:
        await one.connect(two.addresses()[0])
        yield one, two


async def until(net: Network, condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits until `condition()` holds, looking at every event of `net`'s peers. Fails after `seconds`."""
    with net.events() as events, trio.fail_after(seconds):
        while not condition():
            await events.receive()


async def identified(net: Network, peer_id: str) -> None:
    """Waits until identify has told what `peer_id` speaks."""
    await until(net, lambda: bool(net.protocols_of(peer_id)))


@asynccontextmanager
async def raw_connection(number: int, address: str) -> AsyncIterator[Muxer]:
    """A secured, muxed connection of node `number` to a multiaddr with /p2p, below anything that negotiates streams."""
    plain, peer_id = multiaddr.split_peer(address)
    assert peer_id is not None
    upgraded = await dial_tcp(Upgrader(own_sessions(key_pair(number)), own_muxers()), peer_id, plain)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upgraded.muxer.run)
        try:
            yield upgraded.muxer
        finally:
            nursery.cancel_scope.cancel()


async def raw_tcp(address: str) -> trio.SocketStream:
    """A bare TCP connection to a multiaddr."""
    parts = address.split("/")
    return await trio.open_tcp_stream(parts[2], int(parts[4]))
