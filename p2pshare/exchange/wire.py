"""Exchange frames on a stream: headers are parsed one by one, payloads go straight into the caller's buffer."""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2pshare.exchange.limits import Limit, RateLimit
from p2pshare.net.api import Stream
from p2pshare_protocols.exchange_messages import MAX_PAYLOAD, Message, decode, header_length

_SCRATCH = 64 << 10  # bytes that may come with a header before it is known where they belong
_POOLED = MAX_PAYLOAD  # bytes of a buffer that is kept to be used again
_KEPT = 4  # such buffers a stream


class FrameReader:
    """Reads frames off a stream. One task may use it at a time.

    All methods raise trio.BrokenResourceError when the stream breaks or ends inside a frame, and
    RemoteProtocolError for a header that is not allowed.
    """

    def __init__(self, stream: Stream, limit: Limit | None = None) -> None:
        self._stream = stream
        self._limit: Limit = limit if limit is not None else RateLimit()
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._rest = self._scratch[:0]  # what came and was not taken: a part of the scratch, mostly

    async def header(self) -> Message | None:
        """The next frame's header; None when the stream ended properly between two frames."""
        prefix = await self._take(4, may_end=True)
        if prefix is None:
            return None
        header = await self._take(header_length(prefix))
        assert header is not None
        return decode(header)

    async def payload(self, into: memoryview, heard: Callable[[int], None]) -> None:
        """Fill `into`; `heard` is told how many bytes came, each time some do."""
        filled = min(len(self._rest), len(into))
        if filled:
            into[:filled] = self._rest[:filled]
            self._rest = self._rest[filled:]
            heard(filled)
            if self._limit.grain:
                await self._limit.take(filled)
        total = len(into)
        while filled < total:
            grain = self._limit.grain
            end = min(total, filled + grain) if grain else total
            count = await self._stream.receive_into(into[filled:end])
            if not count:
                raise trio.BrokenResourceError("the stream ended inside a payload")
            filled += count
            heard(count)
            if grain:
                await self._limit.take(count)

    async def _take(self, count: int, *, may_end: bool = False) -> memoryview | None:
        have = len(self._rest)
        if have < count:
            room = self._scratch if count <= len(self._scratch) else memoryview(bytearray(count))
            room[:have] = bytes(self._rest)
            while have < count:
                more = await self._stream.receive_into(room[have:])
                if not more:
                    if may_end and not have:
                        return None
                    raise trio.BrokenResourceError("the stream ended inside a header")
                have += more
            self._rest = room[:have]
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


class Pool:
    """Memory for payloads, used again once it is given back: new memory costs the kernel as much as filling it."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self, length: int) -> memoryview:
        if length > _POOLED or length < _POOLED // 8:
            return memoryview(bytearray(length))
        return (self._free.pop() if self._free else memoryview(bytearray(_POOLED)))[:length]

    def give(self, payload: memoryview) -> None:
        """Nothing may look at any part of it any more."""
        whole = payload.obj
        if isinstance(whole, bytearray) and len(whole) == _POOLED and len(self._free) < _KEPT:
            self._free.append(memoryview(whole))
