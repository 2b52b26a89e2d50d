"""The Noise XX handshake as libp2p speaks it: bytes in, bytes out, and at the end two ciphers and a name.

    initiator                         responder
      START      -> e                   START
      WAIT       <- e, ee, s, es, payload   (responder: START -> WAIT)
      DONE       -> s, se, payload          (responder: WAIT -> DONE)

Goals: wire-compatible with `/noise`; mutual proof of identity before a byte of anything else is believed;
every length bounded before it is waited for. Non-goals: other patterns, early data, WebTransport's certificates.
Specified, with golden bytes, in protocols/noise.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.noise_cipher import LENGTH, MAX_RECORD, SUITES, TAG, Cipher
from p2pshare_protocols.noise_payload import (
    SIGNED_PREFIX,
    Payload,
    choose_muxer,
    decode_payload,
    encode_payload,
    verify_identity,
)

KEY = 32
MAX_HANDSHAKE = 8192
"""Bytes of one handshake message: an RSA-8192 identity and sixteen muxer names fit."""


class State(Enum):
    START = "start"
    WAIT = "wait"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Local:
    """Our side. `ephemeral` is a fresh random X25519 private key of 32 bytes, `static` another, which may serve for
    many handshakes and is then given as a key; `sign` signs with the identity whose PublicKey message is
    `identity_key`."""

    identity_key: bytes
    sign: Callable[[bytes], bytes]
    static: bytes | X25519PrivateKey
    ephemeral: bytes
    muxers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Secured:
    """The end of a handshake. `rest`: bytes that came after it, the beginning of the first record."""

    send: Cipher
    receive: Cipher
    identity_key: bytes
    muxer: str | None
    handshake_hash: bytes
    rest: bytes


class _Symmetric:
    """SymmetricState of the Noise specification, section 5.2."""

    def __init__(self, suite: str) -> None:
        name = SUITES[suite]
        self.suite = suite
        self.h = name.ljust(KEY, b"\0") if len(name) <= KEY else hashlib.sha256(name).digest()
        self.ck = self.h
        self.cipher: Cipher | None = None
        self.mix_hash(b"")  # libp2p's prologue is empty

    def mix_hash(self, data: bytes) -> None:
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self.ck, key = self._hkdf(secret)
        self.cipher = Cipher(self.suite, key)

    def encrypt(self, plaintext: bytes) -> bytes:
        sealed = self.cipher.encrypt(plaintext, self.h) if self.cipher else plaintext
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        plaintext = self.cipher.decrypt(sealed, self.h) if self.cipher else sealed
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[Cipher, Cipher]:
        first, second = self._hkdf(b"")
        return Cipher(self.suite, first), Cipher(self.suite, second)

    def _hkdf(self, secret: bytes) -> tuple[bytes, bytes]:
        temporary = hmac.digest(self.ck, secret, "sha256")
        first = hmac.digest(temporary, b"\x01", "sha256")
        return first, hmac.digest(temporary, first + b"\x02", "sha256")


class Handshake:
    """One side of one handshake. Raises RemoteProtocolError for whatever the other side does wrong.

    Feed `receive`, send what `data_to_send` returns, until `secured` is not None.
    """

    def __init__(self, suite: str, *, initiator: bool, local: Local) -> None:
        if suite not in SUITES:
            raise LocalProtocolError(f"unknown Noise suite {suite!r}")
        self.suite = suite
        self.initiator = initiator
        self.state = State.START
        self.secured: Secured | None = None
        self._local = local
        static = local.static
        self._static = X25519PrivateKey.from_private_bytes(static) if isinstance(static, bytes) else static
        self._ephemeral = X25519PrivateKey.from_private_bytes(local.ephemeral)
        self._noise = _Symmetric(suite)
        self._input = bytearray()
        self._output = bytearray()
        self._remote_ephemeral = b""
        if initiator:
            self._send_first()

    def data_to_send(self) -> bytes:
        """What must be sent now; empty when it is the other side's turn."""
        out = bytes(self._output)
        self._output.clear()
        return out

    def receive(self, data: bytes) -> None:
        """Feed bytes as they come. After the end, they are `secured.rest` only if they came with the last message."""
        if self.state in (State.DONE, State.FAILED):
            raise LocalProtocolError("the handshake has ended")
        self._input += data
        try:
            while self.secured is None and (message := self._next_message()) is not None:
                self._on_message(message)
        except RemoteProtocolError:
            self.state = State.FAILED
            raise

    def receive_eof(self) -> None:
        self.state = State.FAILED
        raise RemoteProtocolError("the connection ended inside the Noise handshake")

    def _next_message(self) -> bytes | None:
        if len(self._input) < LENGTH:
            return None
        size = int.from_bytes(self._input[:LENGTH], "big")
        if size > MAX_HANDSHAKE:
            raise RemoteProtocolError(f"a Noise handshake message of {size} bytes")
        if len(self._input) < LENGTH + size:
            return None
        message = bytes(self._input[LENGTH : LENGTH + size])
        del self._input[: LENGTH + size]
        return message

    def _on_message(self, message: bytes) -> None:
        if self.initiator:
            self._read_second(message)
        elif self.state is State.START:
            self._read_first(message)
        else:
            self._read_third(message)

    def _send(self, message: bytes) -> None:
        if len(message) > min(MAX_RECORD, MAX_HANDSHAKE):
            raise LocalProtocolError("our own handshake message is too long")
        self._output += len(message).to_bytes(LENGTH, "big") + message

    def _send_first(self) -> None:
        ephemeral = _public(self._ephemeral)
        self._noise.mix_hash(ephemeral)
        self._send(ephemeral + self._noise.encrypt(b""))
        self.state = State.WAIT

    def _read_first(self, message: bytes) -> None:
        noise = self._noise
        if len(message) < KEY:
            raise RemoteProtocolError("the first Noise message is too short")
        self._remote_ephemeral = message[:KEY]
        noise.mix_hash(self._remote_ephemeral)
        noise.decrypt(message[KEY:])
        ephemeral = _public(self._ephemeral)
        noise.mix_hash(ephemeral)
        noise.mix_key(_agree(self._ephemeral, self._remote_ephemeral))
        static = noise.encrypt(_public(self._static))
        noise.mix_key(_agree(self._static, self._remote_ephemeral))
        self._send(ephemeral + static + noise.encrypt(self._payload()))
        self.state = State.WAIT

    def _read_second(self, message: bytes) -> None:
        noise = self._noise
        if len(message) < KEY + KEY + TAG + TAG:
            raise RemoteProtocolError("the second Noise message is too short")
        remote = message[:KEY]
        noise.mix_hash(remote)
        noise.mix_key(_agree(self._ephemeral, remote))
        remote_static = noise.decrypt(message[KEY : 2 * KEY + TAG])
        noise.mix_key(_agree(self._ephemeral, remote_static))
        payload = decode_payload(noise.decrypt(message[2 * KEY + TAG :]))
        verify_identity(payload, remote_static)
        static = noise.encrypt(_public(self._static))
        noise.mix_key(_agree(self._static, remote))
        self._send(static + noise.encrypt(self._payload()))
        self._finish(payload)

    def _read_third(self, message: bytes) -> None:
        noise = self._noise
        if len(message) < KEY + TAG + TAG:
            raise RemoteProtocolError("the third Noise message is too short")
        remote_static = noise.decrypt(message[: KEY + TAG])
        noise.mix_key(_agree(self._ephemeral, remote_static))
        payload = decode_payload(noise.decrypt(message[KEY + TAG :]))
        verify_identity(payload, remote_static)
        self._finish(payload)

    def _payload(self) -> bytes:
        local = self._local
        signature = local.sign(SIGNED_PREFIX + _public(self._static))
        return encode_payload(Payload(local.identity_key, signature, tuple(local.muxers)))

    def _finish(self, remote: Payload) -> None:
        ours, theirs = self._local.muxers, remote.muxers
        to_responder, to_initiator = self._noise.split()
        if self.initiator:
            send, receive, muxer = to_responder, to_initiator, choose_muxer(ours, theirs)
        else:
            send, receive, muxer = to_initiator, to_responder, choose_muxer(theirs, ours)
        rest = bytes(self._input)
        self.secured = Secured(send, receive, remote.identity_key, muxer, self._noise.h, rest)
        self.state = State.DONE


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def _agree(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # a point of low order gives an all-zero secret
        raise RemoteProtocolError("a Noise key that no honest peer would choose") from None
