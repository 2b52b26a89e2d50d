"""Two ends of a TLS session."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pshare.net.session_tls import TlsContext, TlsSession, secure_inbound, secure_outbound
from tests.support_session import ALICE, BOB, socket_pair

YAMUX = "/yamux/1.0.0"
ALICES, BOBS = TlsContext(ALICE), TlsContext(BOB)
both_wires = pytest.mark.parametrize("memory", [True, False])


async def wires(memory: bool) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair() if memory else await socket_pair()


async def secured(
    left: trio.abc.Stream,
    right: trio.abc.Stream,
    muxers: tuple[str, ...] = (),
    bobs_muxers: tuple[str, ...] | None = None,
) -> tuple[TlsSession, TlsSession]:
    """The sessions of Alice, who dialled, and Bob."""
    sessions: dict[str, TlsSession] = {}

    async def dial() -> None:
        sessions["alice"] = await secure_outbound(left, ALICES, expected_peer=BOB.peer_id, muxers=muxers)

    async def answer() -> None:
        theirs = muxers if bobs_muxers is None else bobs_muxers
        sessions["bob"] = await secure_inbound(right, BOBS, muxers=theirs)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(answer)
    return sessions["alice"], sessions["bob"]


async def read_all(session: TlsSession, count: int) -> bytes:
    out = bytearray()
    while len(out) < count and (data := await session.receive_some()):
        out += data
    return bytes(out)
