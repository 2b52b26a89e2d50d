"""The asking side of postings: one stream to a storing node, request after answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from p2pshare.errors import RemoteError, TimedOut, Unreachable
from p2pshare.net.api import Network, Stream
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.index_messages import LENGTH, MAX_ANSWER, PROTOCOL, frame_length
from p2pshare_protocols.item_record import Signed


class Line:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def ask(self, request: wire.Request) -> wire.Answer:
        await self._stream.send_all(wire.encode(request))
        return (await self._read())[0]

    async def push(self, frame: bytes) -> None:
        """A frame whose answer says only that it was read."""
        await self._stream.send_all(frame)
        await self._read()

    async def find(self, request: wire.Find) -> tuple[list[tuple[Signed, int]], wire.FindEnd]:
        """Everything that the node has, and when it says that each was proven (0 never), unchecked.

        More than was asked for, or than an answer may have, is an error.
        """
        await self._stream.send_all(wire.encode(request))
        records: list[tuple[Signed, int]] = []
        received = 0
        while True:
            answer, length = await self._read()
            received += length
            if isinstance(answer, wire.FindEnd):
                return records, answer
            if not isinstance(answer, wire.Records) or received > MAX_ANSWER or not answer.records:
                raise RemoteProtocolError("an answer is too long, or not to what was asked")
            records += zip(answer.records, answer.proven or (0,) * len(answer.records), strict=True)
            if len(records) > request.limit:
                raise RemoteProtocolError("an answer has more records than were asked for")

    async def _read(self) -> tuple[wire.Answer, int]:
        length = frame_length(await self._stream.receive_exactly(LENGTH), wire.MAX_FRAME)
        return wire.read_answer(wire.unpack(await self._stream.receive_exactly(length))), length


@asynccontextmanager
async def open_line(net: Network, peer_id: str, timeout: float) -> AsyncIterator[Line]:
    """A stream to a storing node, for `timeout` seconds in all.

    Raises Unreachable, TimedOut, or RemoteError(kind="failed") when the peer breaks or does not speak the protocol.
    """
    try:
        with trio.fail_after(timeout):
            async with await net.open_stream(peer_id, [PROTOCOL], timeout=timeout) as stream:
                yield Line(stream)
    except trio.TooSlowError:
        raise TimedOut("a storing node did not answer in time") from None
    except RemoteProtocolError as error:
        raise RemoteError(f"a storing node's answer is not allowed: {error}", kind="failed") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise Unreachable("the connection to a storing node was lost while it was asked") from None
