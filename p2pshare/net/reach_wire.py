"""One bounded AutoNAT message from a stream."""

from __future__ import annotations

from p2pshare.net.api import Stream
from p2pshare_protocols import varint
from p2pshare_protocols.autonat import MAX_MESSAGE
from p2pshare_protocols.errors import RemoteProtocolError


async def read_body(stream: Stream) -> bytes:
    """Without its length. Raises RemoteProtocolError, trio.BrokenResourceError. The caller bounds the time."""
    head = b""
    while not head or head[-1] > 127:
        head += await stream.receive_exactly(1)
        if len(head) > 3:
            raise RemoteProtocolError("an AutoNAT message is too long")
    length, _ = varint.decode(head)
    if length > MAX_MESSAGE:
        raise RemoteProtocolError("an AutoNAT message is too long")
    return await stream.receive_exactly(length) if length else b""
