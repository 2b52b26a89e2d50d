"""A connection that is cut at any byte of a transfer: the reader never sees a clean end before the real one."""

from __future__ import annotations

from contextlib import suppress

import trio
import trio.testing

from p2pshare.net.muxer import Muxer
from tests.support_session import secured

SENT = bytes(range(200)) * 2


class Cut:
    """Lets `left` bytes of the wire through, then ends it as a closed connection does."""

    def __init__(self, inner: trio.abc.ReceiveStream, left: int) -> None:
        self._receive = inner.receive_some
        self.left = left

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self.left:
            return b""
        data = bytes(await self._receive(min(self.left, max_bytes or self.left)))
        self.left -= len(data)
        return data


async def transfer(left: int) -> tuple[bytes, bool, int]:
    """What a reader got of SENT when the wire is cut after `left` bytes, whether it saw a clean end, and what was left
    uncut."""
    ends = trio.testing.memory_stream_pair()
    alice, bob = await secured(*ends)
    cut = Cut(ends[1].receive_stream, left)
    ends[1].receive_stream.receive_some = cut.receive_some  # type: ignore[method-assign]
    sender, reader = Muxer(alice, initiator=True), Muxer(bob, initiator=False)
    got = bytearray()
    clean = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        nursery.start_soon(reader.run)
        stream = await sender.open_stream()
        with suppress(trio.BrokenResourceError):  # it learns of the cut, sooner or later
            for at in range(0, len(SENT), 100):
                await stream.send_all(SENT[at : at + 100])
            await stream.send_eof()
        with suppress(trio.EndOfChannel, trio.BrokenResourceError):
            receiving = await reader.accept_stream()
            while data := await receiving.receive_some():
                got += data
            clean = True
        nursery.cancel_scope.cancel()
    return bytes(got), clean, cut.left


async def test_no_cut_looks_like_an_end() -> None:
    whole, clean, unused = await transfer(1 << 20)
    assert (whole, clean) == (SENT, True)
    wire = (1 << 20) - unused
    assert wire > len(SENT)
    cleanly = []
    for left in range(wire):
        got, clean, _ = await transfer(left)
        assert SENT.startswith(got)
        assert not clean or got == SENT, f"cut after {left} of {wire} bytes, {len(got)} bytes looked like all"
        cleanly.append(clean)
    assert not any(cleanly[: len(SENT)])
