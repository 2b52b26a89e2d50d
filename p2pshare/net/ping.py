"""ping: 32 random bytes there and back. /ipfs/ping/1.0.0 of github.com/libp2p/specs, ping."""

from __future__ import annotations

import os

import trio

from p2pshare.net.api import Stream
from p2pshare_protocols.errors import RemoteProtocolError

PROTOCOL = "/ipfs/ping/1.0.0"
SIZE = 32  # bytes
IDLE_SECONDS = 120.0  # an asker silent for so long is let go


async def answer(stream: Stream) -> None:
    """Echoes until the asker closes, or is silent for two minutes."""
    while True:
        with trio.move_on_after(IDLE_SECONDS) as patience:
            head = await stream.receive_some(SIZE)
            if not head:
                return
            rest = await stream.receive_exactly(SIZE - len(head)) if len(head) < SIZE else b""
            await stream.send_all(head + rest)
        if patience.cancelled_caught:
            return


async def measure(stream: Stream) -> float:
    """One round trip, in seconds. Raises RemoteProtocolError when other bytes come back."""
    sent = os.urandom(SIZE)
    start = trio.current_time()
    await stream.send_all(sent)
    if await stream.receive_exactly(SIZE) != sent:
        raise RemoteProtocolError("a ping came back changed")
    return trio.current_time() - start
