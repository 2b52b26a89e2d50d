"""The secure session of a connection: the Noise handshake, then records in both directions, over any trio stream.

Over a `trio.SocketStream` it reads and writes the socket itself, so that a byte is copied by the kernel only and
sealed and opened in place. Buffers grow with the traffic (8 KiB idle, 1 MiB in bulk).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import trio
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from p2pshare.errors import TimedOut
from p2pshare.net.session_base import (
    HANDSHAKE_TIMEOUT,
    MAX_BATCH,
    MAX_RECEIVE,
    SHRINK_AFTER,
    HasIdentity,
    SecureSession,
)
from p2pshare.net.session_wire import make_wire
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.multistream import Initiator
from p2pshare_protocols.noise import KEY, Handshake, Local, Secured
from p2pshare_protocols.noise_cipher import (
    MAX_RECORD,
    NOISE,
    NOISE_AESGCM,
    Taker,
    open_records,
    open_records_to,
    seal_into,
    sealed_size,
)
from p2pshare_protocols.peerid import ED25519, encode_public_key, peer_id_from_public_key

PROTOCOLS = (NOISE_AESGCM, NOISE)
"""Our suites, the fastest first on a CPU with AES instructions."""
IDLE_BUFFER = 1 << 13
"""Bytes of each of the two buffers while little moves (most connections are idle). A longer record doubles it."""


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
    identity: HasIdentity | StaticKey,
    *,
    expected_peer: str | None,
    muxers: Sequence[str] = (),
    received: bytes = b"",
    timeout: float = HANDSHAKE_TIMEOUT,
    proposal: Initiator | None = None,
) -> Session:
    """Run the handshake as the side that dialled. `suite` is the protocol id that was negotiated.

    `received`: bytes already read from the stream after the negotiation. `proposal`: the suite was not negotiated yet;
    the proposal leaves with the first message, and a refusal is a RemoteProtocolError. Raises RemoteProtocolError (a
    lie, or not `expected_peer`), trio.BrokenResourceError (the connection was
    lost) or TimedOut; the stream is then aborted.
    """
    handshake = Handshake(suite, initiator=True, local=_local(identity, muxers))
    return await _secure(stream, handshake, received, timeout, expected_peer=expected_peer, proposal=proposal)


async def secure_inbound(
    stream: trio.abc.Stream,
    suite: str,
    identity: HasIdentity | StaticKey,
    *,
    muxers: Sequence[str] = (),
    received: bytes = b"",
    timeout: float = HANDSHAKE_TIMEOUT,
) -> Session:
    """Run the handshake as the side that was dialled; as `secure_outbound` otherwise."""
    handshake = Handshake(suite, initiator=False, local=_local(identity, muxers))
    return await _secure(stream, handshake, received, timeout, expected_peer=None)


def _local(identity: HasIdentity | StaticKey, muxers: Sequence[str]) -> Local:
    static = identity if isinstance(identity, StaticKey) else StaticKey(identity)
    return static.local(muxers)


async def _secure(
    stream: trio.abc.Stream,
    handshake: Handshake,
    received: bytes,
    timeout: float,
    *,
    expected_peer: str | None,
    proposal: Initiator | None = None,
) -> Session:
    try:
        with trio.fail_after(timeout):
            if proposal is not None:
                await _propose_ahead(stream, proposal, handshake.data_to_send())
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


async def _propose_ahead(stream: trio.abc.Stream, proposal: Initiator, first: bytes) -> None:
    """Send the proposal and the first message at once, then take the answer to the proposal, and no more."""
    await stream.send_all(proposal.start() + first)
    while not proposal.done:
        if not (data := await stream.receive_some(proposal.wanted)):
            raise trio.BrokenResourceError("the stream ended during negotiation")
        proposal.receive(data)
    if proposal.chosen is None:
        raise RemoteProtocolError("the peer does not speak the suite that it spoke before")


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


class StaticKey:
    """A static Noise key and the identity's signature over it, for all sessions of a network: half a handshake less to
    compute. The specification allows it; what was said in a session stays secret by the fresh keys of both sides."""

    def __init__(self, identity: HasIdentity) -> None:
        self._key = X25519PrivateKey.generate()
        self._identity_key = encode_public_key(ED25519, identity.public)
        self._sign = cache(identity.private.sign)

    def local(self, muxers: Sequence[str]) -> Local:
        return Local(self._identity_key, self._sign, self._key, os.urandom(KEY), muxers)


class Session(SecureSession):
    """A Noise session. It has no closing of its own: an end between two records is for the layer above to judge."""

    def __init__(self, stream: trio.abc.Stream, suite: str, secured: Secured, remote_peer: str) -> None:
        super().__init__(
            make_wire(stream),
            suite=suite,
            remote_peer=remote_peer,
            remote_public_key=secured.identity_key,
            muxer=secured.muxer,
        )
        self._send_cipher = secured.send
        self._receive_cipher = secured.receive
        self._out = memoryview(bytearray())
        self._out_end = 0
        self._in = memoryview(bytearray(max(IDLE_BUFFER, len(secured.rest))))
        self._in_start = 0
        self._in_end = len(secured.rest)
        self._in[: self._in_end] = secured.rest
        self._wanted = IDLE_BUFFER
        self._small_reads = self._small_sends = 0
        self._first = bool(secured.rest)

    def seal(self, buffers: Sequence[memoryview]) -> None:
        if self._broken:
            raise trio.BrokenResourceError("the session is broken")
        needed = self._out_end + sealed_size(sum(map(len, buffers)))
        if needed > len(self._out):
            grown = memoryview(bytearray(max(needed, IDLE_BUFFER)))
            grown[: self._out_end] = self._out[: self._out_end]
            self._out = grown
        self._out_end += seal_into(self._send_cipher, buffers, self._out[self._out_end :])

    async def flush(self) -> None:
        if self._broken:
            raise trio.BrokenResourceError("the session is broken")
        end, self._out_end = self._out_end, 0
        self._broken = True  # until it went well
        await self._wire.send(self._out[:end])
        self._broken = False
        if len(self._out) > IDLE_BUFFER:
            self._small_sends = self._small_sends + 1 if end < len(self._out) // 8 else 0
            if self._small_sends >= SHRINK_AFTER and not self._out_end:
                self._out, self._small_sends = memoryview(bytearray(IDLE_BUFFER)), 0

    async def _open_records(self) -> list[memoryview]:
        while True:
            if not self._first and not await self._fill():
                return []
            self._first = False
            views, used = open_records(self._receive_cipher, self._in[self._in_start : self._in_end])
            self._in_start += used
            if views:
                return views

    async def receive_to(self, taker: Taker) -> bool:
        if self._views:
            return await super().receive_to(taker)
        used = 0
        while not used:
            if not self._first and not await self._fill():
                return False
            self._first = False
            used = open_records_to(self._receive_cipher, self._in[self._in_start : self._in_end], taker)
            self._in_start += used
        return True

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
            self._wanted = min(len(self._in) * 2, MAX_RECEIVE)  # so a full buffer always grows
            self._small_reads = 0
        elif count * 8 < len(self._in):
            self._small_reads += 1
            if self._small_reads >= SHRINK_AFTER:
                self._wanted, self._small_reads = IDLE_BUFFER, 0
        else:
            self._small_reads = 0


__all__ = [
    "HANDSHAKE_TIMEOUT",
    "MAX_BATCH",
    "PROTOCOLS",
    "HasIdentity",
    "Session",
    "has_aes_instructions",
    "secure_inbound",
    "secure_outbound",
    "suites",
]
