"""The stream that the rest of the daemon gets: a muxed stream on which a protocol was agreed."""

from __future__ import annotations

import trio

from p2pshare.net.api import Stream
from p2pshare.net.layers import MuxedStream


class NetStream(Stream):
    """One stream of a connection. See `p2pshare.net.api.Stream` for how it ends."""

    def __init__(self, muxed: MuxedStream, peer_id: str, protocol: str) -> None:
        self._muxed = muxed
        self._receiving = False
        self._sending = False
        self.peer_id = peer_id
        self.protocol = protocol

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._receiving:
            raise trio.BusyResourceError("another task receives from this stream")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        self._receiving = True
        try:
            return await self._muxed.receive_some(max_bytes)
        finally:
            self._receiving = False

    async def receive_exactly(self, count: int) -> bytes:
        parts: list[bytes | bytearray] = []
        while count:
            data = await self.receive_some(count)
            if not data:
                raise trio.BrokenResourceError("the stream ended before all was received")
            if len(data) == count and not parts:
                return bytes(data)
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._start_sending()
        try:
            await self._muxed.send_all(data)
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        self._start_sending()
        try:
            await self._muxed.wait_send_all_might_not_block()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        self._start_sending()
        try:
            await self._muxed.send_eof()
        finally:
            self._sending = False

    def _start_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task sends on this stream")
        self._sending = True

    async def aclose(self) -> None:
        await self._muxed.aclose()

    async def reset(self) -> None:
        await self._muxed.reset()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Leaving by an exception aborts: a truncated message must not look like a whole one."""
        if error is None:
            await self.aclose()
        else:
            await self.reset()
