"""The secure session of a connection: the Noise handshake, then records in both directions, over any trio stream.

Over a `trio.SocketStream` it reads and writes the socket itself, so that a byte is copied by the kernel only and
sealed and opened in place. Buffers grow with the traffic (64 KiB idle, 1 MiB in bulk).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.errors import TimedOut
from p2pshare.net.session_wire import Wire, make_wire
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.noise import KEY, Handshake, Local, Secured
from p2pshare_protocols.noise_cipher import (
    LENGTH,
    MAX_RECORD,
    NOISE,
    NOISE_AESGCM,
    open_records,
    seal_into,
    sealed_size,
)
from p2pshare_protocols.peerid import ED25519, encode_public_key, peer_id_from_public_key

PROTOCOLS = (NOISE_AESGCM, NOISE)
"""Our suites, the fastest first on a CPU with AES instructions."""
HANDSHAKE_TIMEOUT = 10.0
MAX_BATCH = (1 << 20) + (1 << 16)
"""Bytes of plaintext that one call of `seal` takes: a write of 1 MiB and its frame headers at once."""
_MIN_BUFFER = (1 << 16) + LENGTH
_MAX_RECEIVE = 1 << 20
_SHRINK_AFTER = 64  # reads in a row that used less than an eighth of the buffer

Buffer = bytes | bytearray | memoryview


class HasIdentity(Protocol):
    """What of p2pshare.identity.Identity is used here."""

    @property
    def private(self) -> Ed25519PrivateKey: ...

    @property
    def public(self) -> bytes: ...


def has_aes_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Does the CPU do AES itself? Without it AES-GCM is slower than ChaCha20, and it is not constant in time."""
    try:
        with cpuinfo.open("rb") as file:
            flags = next((line for line in file if line.startswith((b"flags", b"Features"))), b"")
    except OSError:
        return False
    return b"aes" in flags.split()


def suites(aes: bool) -> tuple[str, ...]:
    """Our suites in the order in which to propose them."""
    return PROTOCOLS if aes else (NOISE,)


async def secure_outbound(
    stream: trio.abc.Stream,
    suite: str,
    identity: HasIdentity,
    *,
    expected_peer: str | None,
    muxers: Sequence[str] = (),
    received: bytes = b"",
    timeout: float = HANDSHAKE_TIMEOUT,
) -> Session:
    """Run the handshake as the side that dialled. `suite` is the protocol id that was negotiated.

    `received`: bytes already read from the stream after the negotiation. Raises RemoteProtocolError (a lie, or not
    `expected_peer`), trio.BrokenResourceError (the connection was lost) or TimedOut; the stream is then aborted.
    """
    handshake = Handshake(suite, initiator=True, local=_local(identity, muxers))
    return await _secure(stream, handshake, received, timeout, expected_peer=expected_peer)


async def secure_inbound(
    stream: trio.abc.Stream,
    suite: str,
    identity: HasIdentity,
    *,
    muxers: Sequence[str] = (),
    received: bytes = b"",
    timeout: float = HANDSHAKE_TIMEOUT,
) -> Session:
    """Run the handshake as the side that was dialled; as `secure_outbound` otherwise."""
    handshake = Handshake(suite, initiator=False, local=_local(identity, muxers))
    return await _secure(stream, handshake, received, timeout, expected_peer=None)


def _local(identity: HasIdentity, muxers: Sequence[str]) -> Local:
    return Local(
        identity_key=encode_public_key(ED25519, identity.public),
        sign=identity.private.sign,
        static=os.urandom(KEY),
        ephemeral=os.urandom(KEY),
        muxers=muxers,
    )


async def _secure(
    stream: trio.abc.Stream,
    handshake: Handshake,
    received: bytes,
    timeout: float,
    *,
    expected_peer: str | None,
) -> Session:
    try:
        with trio.fail_after(timeout):
            secured = await _shake(stream, handshake, received)
        peer = peer_id_from_public_key(secured.identity_key)
        if expected_peer is not None and peer != expected_peer:
            raise RemoteProtocolError(f"the peer is {peer}, not {expected_peer}")
    except trio.TooSlowError:
        await trio.aclose_forcefully(stream)
        raise TimedOut(f"the peer did not finish the handshake in {timeout:g} s") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return Session(stream, handshake.suite, secured, peer)


async def _shake(stream: trio.abc.Stream, handshake: Handshake, received: bytes) -> Secured:
    if received:
        handshake.receive(received)
    while True:
        if out := handshake.data_to_send():
            await stream.send_all(out)
        if handshake.secured is not None:
            return handshake.secured
        data = await stream.receive_some(MAX_RECORD)
        if not data:
            handshake.receive_eof()
        handshake.receive(bytes(data))


class Session:
    """A secured connection, a stream of bytes in both directions. One task may send and one receive at a time.

    remote_peer: peer ID; remote_public_key: libp2p's PublicKey message; muxer: what both agreed on inside the
    handshake, None when it has to be negotiated. bytes_in and bytes_out count the wire.
    """

    def __init__(self, stream: trio.abc.Stream, suite: str, secured: Secured, remote_peer: str) -> None:
        self.remote_peer = remote_peer
        self.remote_public_key = secured.identity_key
        self.suite = suite
        self.muxer = secured.muxer
        self._wire: Wire = make_wire(stream)
        self._send_cipher = secured.send
        self._receive_cipher = secured.receive
        self._out = memoryview(bytearray())
        self._out_end = 0
        self._broken = False
        self._in = memoryview(bytearray(max(_MIN_BUFFER, len(secured.rest))))
        self._in_start = 0
        self._in_end = len(secured.rest)
        self._in[: self._in_end] = secured.rest
        self._wanted = _MIN_BUFFER
        self._small_reads = self._small_sends = 0
        self._views: list[memoryview] = []
        self._first = bool(secured.rest)

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

    def seal(self, buffers: Sequence[memoryview]) -> None:
        """Encrypt at most MAX_BATCH bytes for the next `flush`; the buffers are free when it returns."""
        if self._broken:
            raise trio.BrokenResourceError("the session is broken")
        needed = self._out_end + sealed_size(sum(map(len, buffers)))
        if needed > len(self._out):
            grown = memoryview(bytearray(max(needed, _MIN_BUFFER)))
            grown[: self._out_end] = self._out[: self._out_end]
            self._out = grown
        self._out_end += seal_into(self._send_cipher, buffers, self._out[self._out_end :])

    async def flush(self) -> None:
        """Send what was sealed. Cancelled or failed, the session can send no more."""
        if self._broken:
            raise trio.BrokenResourceError("the session is broken")
        end, self._out_end = self._out_end, 0
        self._broken = True  # until it went well
        await self._wire.send(self._out[:end])
        self._broken = False
        if len(self._out) > _MIN_BUFFER:
            self._small_sends = self._small_sends + 1 if end < len(self._out) // 8 else 0
            if self._small_sends >= _SHRINK_AFTER and not self._out_end:
                self._out, self._small_sends = memoryview(bytearray(_MIN_BUFFER)), 0

    async def receive_views(self) -> list[memoryview]:
        """Wait for at least one record; the plaintexts of all that came, in order.

        The views are valid until the next call. An empty list says that the connection ended between two records;
        Noise has no closing of its own, so whether that is the proper end is for the layer above to say.
        Raises RemoteProtocolError, trio.BrokenResourceError (lost, or ended inside a record).
        """
        if self._views:  # what `receive_into` left
            left, self._views = self._views[::-1], []
            await trio.lowlevel.checkpoint()
            return left
        while True:
            if not self._first and not await self._fill():
                return []
            self._first = False
            views, used = open_records(self._receive_cipher, self._in[self._in_start : self._in_end])
            self._in_start += used
            if views:
                return views

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

    async def receive_some(self, max_bytes: int = MAX_RECORD) -> bytes:
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

    async def _fill(self) -> bool:
        """Read once into the free end of the buffer. False at the end between records."""
        left = self._in_end - self._in_start
        self._room_for(left)
        free = self._in[left:]
        count = await self._wire.receive_into(free)
        if not count:
            if left:
                raise trio.BrokenResourceError("the connection ended inside a record")
            return False
        self._in_end = left + count
        self._adapt(count, len(free))
        return True

    def _room_for(self, left: int) -> None:
        """Move the beginning of a record to the front of a buffer of the wanted size."""
        wanted = self._wanted
        if wanted != len(self._in) and left < wanted:
            moved = memoryview(bytearray(wanted))
            moved[:left] = self._in[self._in_start : self._in_end]
            self._in = moved
        elif self._in_start:
            self._in[:left] = bytes(self._in[self._in_start : self._in_end])
        self._in_start, self._in_end = 0, left

    def _adapt(self, count: int, free: int) -> None:
        if count == free:
            self._wanted = min(self._wanted * 2, _MAX_RECEIVE)
            self._small_reads = 0
        elif count * 8 < len(self._in):
            self._small_reads += 1
            if self._small_reads >= _SHRINK_AFTER:
                self._wanted, self._small_reads = _MIN_BUFFER, 0
        else:
            self._small_reads = 0


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
