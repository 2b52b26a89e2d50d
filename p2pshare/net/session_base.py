"""What every secure session is for the muxer: bytes in both directions, sealed and opened in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.net.session_wire import Wire
from p2pshare_protocols.noise_cipher import Taker

HANDSHAKE_TIMEOUT = 10.0
MAX_BATCH = (1 << 20) + (1 << 16)
"""Bytes of plaintext that one call of `seal` takes: a write of 1 MiB and its frame headers at once."""
MIN_BUFFER = (1 << 16) + 2
"""Bytes to read at once when idle: the longest Noise record with its length."""
MAX_RECEIVE = 1 << 20
SHRINK_AFTER = 64  # reads or sends in a row that used less than an eighth of the buffer
_SOME = 65535

Buffer = bytes | bytearray | memoryview


class HasIdentity(Protocol):
    """What of p2pshare.identity.Identity is used here."""

    @property
    def private(self) -> Ed25519PrivateKey: ...

    @property
    def public(self) -> bytes: ...


class SecureSession(ABC):
    """A secured connection, a stream of bytes in both directions. One task may send and one receive at a time.

    remote_peer: peer ID; remote_public_key: libp2p's PublicKey message; muxer: what both agreed on inside the
    handshake, None when it has to be negotiated. bytes_in and bytes_out count the wire.
    """

    def __init__(
        self, wire: Wire, *, suite: str, remote_peer: str, remote_public_key: bytes, muxer: str | None
    ) -> None:
        self.remote_peer = remote_peer
        self.remote_public_key = remote_public_key
        self.suite = suite
        self.muxer = muxer
        self._wire = wire
        self._broken = False
        self._views: list[memoryview] = []  # what `receive_into` left, the last first

    @property
    def broken(self) -> bool:
        """Nothing can be sent any more."""
        return self._broken

    @property
    def bytes_in(self) -> int:
        return self._wire.bytes_in

    @property
    def bytes_out(self) -> int:
        return self._wire.bytes_out

    @property
    def unacknowledged(self) -> float:
        """Seconds since the peer's kernel last acknowledged anything while something is under way to it, else 0."""
        return self._wire.unacknowledged()

    async def send(self, buffers: Sequence[Buffer]) -> None:
        """Send the concatenation of the buffers; returns when the kernel has it.

        When it is cancelled or fails midway, a record may be cut: the session can then send no more.
        Raises trio.BrokenResourceError, trio.ClosedResourceError.
        """
        for batch in _batches(buffers):
            self.seal(batch)
            await self.flush()
        if not buffers:
            await trio.lowlevel.checkpoint()

    @abstractmethod
    def seal(self, buffers: Sequence[memoryview]) -> None:
        """Encrypt at most MAX_BATCH bytes for the next `flush`; the buffers are free when it returns."""

    @abstractmethod
    async def flush(self) -> None:
        """Send what was sealed. Cancelled or failed, the session can send no more."""

    async def receive_views(self) -> list[memoryview]:
        """Wait for at least one record; the plaintexts of all that came, in order.

        The views are valid until the next call. An empty list says that the connection ended between two records;
        whether that is the proper end is for the layer above to say, unless the suite has a closing of its own.
        Raises RemoteProtocolError, trio.BrokenResourceError (lost, or ended inside a record).
        """
        if self._views:
            left, self._views = self._views[::-1], []
            await trio.lowlevel.checkpoint()
            return left
        return await self._open_records()

    async def receive_to(self, taker: Taker) -> bool:
        """As `receive_views`, each plaintext handed to `taker` as soon as it is known. False at the end."""
        views = await self.receive_views()
        for view in views:
            taker.take(view)
        return bool(views)

    @abstractmethod
    async def _open_records(self) -> list[memoryview]:
        """As `receive_views`, when nothing is left."""

    async def receive_into(self, view: memoryview) -> int:
        """Fill `view` with what has come, at least one byte; the count, 0 at the end. Errors of `receive_views`."""
        if not self._views:
            self._views = await self.receive_views()
            self._views.reverse()
        filled = 0
        while self._views and filled < len(view):
            head = self._views[-1]
            part = min(len(head), len(view) - filled)
            view[filled : filled + part] = head[:part]
            filled += part
            if part == len(head):
                self._views.pop()
            else:
                self._views[-1] = head[part:]
        return filled

    async def receive_some(self, max_bytes: int = _SOME) -> bytes:
        """At most `max_bytes` as bytes; b"" at the end. Errors of `receive_views`."""
        out = bytearray(max_bytes)
        count = await self.receive_into(memoryview(out))
        return bytes(memoryview(out)[:count])

    def pace(self, unsent: int) -> None:
        """How many bytes the kernel may hold unsent; less makes what is urgent wait less."""
        self._wire.pace(unsent)

    async def send_eof(self) -> None:
        """Close our sending half where the transport can; the other side reads to the end."""
        self._broken = True
        await self._wire.send_eof()

    async def aclose(self) -> None:
        """Close the connection; what `send` returned for is still delivered by the kernel."""
        self._broken = True
        await self._wire.aclose()

    async def abort(self) -> None:
        """Close at once, without waiting, whatever was not sent yet. The other side sees the connection lost."""
        self._broken = True
        await self._wire.abort()


def _batches(buffers: Sequence[Buffer]) -> list[list[memoryview]]:
    """Cut into lists of at most MAX_BATCH bytes."""
    batches: list[list[memoryview]] = [[]]
    room = MAX_BATCH
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        while len(view):
            if not room:
                batches.append([])
                room = MAX_BATCH
            batches[-1].append(view[:room])
            taken = min(len(view), room)
            view = view[taken:]
            room -= taken
    return batches
