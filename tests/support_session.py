"""Two ends of a secured, muxed connection in one process: over a real socket pair or in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.net.muxer import Muxer, MuxerLimits, MuxStream
from p2pshare.net.session import Session, secure_inbound, secure_outbound
from p2pshare_protocols.noise_cipher import NOISE
from p2pshare_protocols.peerid import peer_id_from_ed25519


@dataclass(frozen=True)
class SomeIdentity:
    private: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def peer_id(self) -> str:
        return peer_id_from_ed25519(self.public)


def some_identity(seed: int) -> SomeIdentity:
    return SomeIdentity(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


ALICE, BOB = some_identity(1), some_identity(2)


async def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two connected TCP streams on loopback."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0] as listener:
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return client, await listener.accept()


async def secured(
    left: trio.abc.Stream, right: trio.abc.Stream, suite: str = NOISE, muxers: tuple[str, ...] = ()
) -> tuple[Session, Session]:
    """The sessions of Alice, who dialled, and Bob."""
    sessions: dict[str, Session] = {}

    async def dial() -> None:
        sessions["alice"] = await secure_outbound(left, suite, ALICE, expected_peer=BOB.peer_id, muxers=muxers)

    async def answer() -> None:
        sessions["bob"] = await secure_inbound(right, suite, BOB, muxers=muxers)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(answer)
    return sessions["alice"], sessions["bob"]


async def muxers(
    nursery: trio.Nursery, *, memory: bool = False, limits: MuxerLimits | None = None, suite: str = NOISE
) -> tuple[Muxer, Muxer]:
    """Two muxers that run in the nursery."""
    pair = trio.testing.memory_stream_pair() if memory else await socket_pair()
    alice, bob = await secured(*pair, suite)
    left, right = Muxer(alice, initiator=True, limits=limits), Muxer(bob, initiator=False, limits=limits)
    nursery.start_soon(left.run)
    nursery.start_soon(right.run)
    return left, right


@asynccontextmanager
async def open_muxers(*, memory: bool = False, limits: MuxerLimits | None = None) -> AsyncIterator[tuple[Muxer, Muxer]]:
    async with trio.open_nursery() as nursery:
        yield await muxers(nursery, memory=memory, limits=limits)
        nursery.cancel_scope.cancel()


async def stream_pair(left: Muxer, right: Muxer) -> tuple[MuxStream, MuxStream]:
    opened = await left.open_stream()
    return opened, await right.accept_stream()
