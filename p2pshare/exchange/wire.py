"""Exchange frames on a stream: headers are parsed one by one, payloads go straight into the caller's buffer."""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2pshare.exchange.limits import RateLimit
from p2pshare.net.api import Stream
from p2pshare_protocols.exchange_messages import Message, decode, header_length

_READ = 256 << 10  # bytes a read while looking for a header; what is behind the header is kept


class FrameReader:
    """Reads frames off a stream. One task may use it at a time.

    All methods raise trio.BrokenResourceError when the stream breaks or ends inside a frame, and
    RemoteProtocolError for a header that is not allowed.
    """

    def __init__(self, stream: Stream, limit: RateLimit | None = None) -> None:
        self._stream = stream
        self._limit = limit if limit is not None else RateLimit()
        self._rest = memoryview(b"")

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
        if len(self._rest) < count:
            parts = bytearray(self._rest)
            while len(parts) < count:
                data = await self._stream.receive_some(_READ)
                if not data:
                    if may_end and not parts:
                        return None
                    raise trio.BrokenResourceError("the stream ended inside a header")
                parts += data
            self._rest = memoryview(parts)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken
