"""Whole messages from a stream: length as a varint, then the message, both bounded before anything is kept."""

from __future__ import annotations

import trio

from p2pshare.net.api import Stream
from p2pshare_protocols import kad_messages
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.kad_messages import MAX_MESSAGE, Message

_READ = 16 * 1024


class MessageReader:
    """Messages of one stream, in order. Keeps at most one message and _READ bytes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> Message | None:
        """The next message; None when the peer ended the stream between two.

        Raises RemoteProtocolError for what is no message, trio.BrokenResourceError when the stream breaks.
        """
        while True:
            message = self.ready()
            if message is not None:
                return message
            data = await self._stream.receive_some(_READ)
            if not data:
                if self._buffer:
                    raise trio.BrokenResourceError("the stream ended inside a message")
                return None
            self._buffer += data

    def ready(self) -> Message | None:
        """The next message if it has arrived whole. Raises RemoteProtocolError for what is no message."""
        size, start = self._length()
        if not start or len(self._buffer) < start + size:
            return None
        body = bytes(self._buffer[start : start + size])
        del self._buffer[: start + size]
        return kad_messages.decode(body)

    def _length(self) -> tuple[int, int]:
        """(length of the message, where it starts), or (0, 0) while the length is not complete."""
        size = 0
        for at, byte in enumerate(self._buffer[:4]):
            size |= (byte & 127) << 7 * at
            if byte < 128:
                if size > MAX_MESSAGE:
                    raise RemoteProtocolError("a DHT message is too long")
                return size, at + 1
        if len(self._buffer) >= 4:
            raise RemoteProtocolError("a DHT message is too long")
        return 0, 0
