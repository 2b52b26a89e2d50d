"""The stream that the rest of the daemon gets: a muxed stream on which a protocol was agreed."""

from __future__ import annotations

from types import TracebackType

from p2pshare.net.api import Stream
from p2pshare.net.layers import Buffer, MuxedStream


class NetStream(Stream):
    """One stream of a connection. See `p2pshare.net.api.Stream` for how it ends."""

    def __init__(self, muxed: MuxedStream, peer_id: str, protocol: str) -> None:
        self._muxed = muxed
        self.peer_id = peer_id
        self.protocol = protocol

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._muxed.receive_some(max_bytes))

    async def receive_into(self, view: bytearray | memoryview) -> int:
        return await self._muxed.receive_into(view)

    async def receive_exactly(self, count: int) -> bytes:
        return await self._muxed.receive_exactly(count)

    async def send_all(self, data: Buffer) -> None:
        await self._muxed.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._muxed.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._muxed.send_eof()

    async def aclose(self) -> None:
        await self._muxed.aclose()

    async def reset(self) -> None:
        await self._muxed.reset()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaving by an exception aborts: a truncated message must not look like a whole one."""
        if kind is not None:
            await self.reset()
        await self.aclose()
