"""What libp2p puts inside the Noise handshake: who the peer is, and which muxers it speaks.

NoiseHandshakePayload { identity_key = 1; identity_sig = 2; extensions = 4 { webtransport_certhashes = 1;
stream_muxers = 2 } } (libp2p noise specification, "The libp2p Handshake Payload"). The signature is over
"noise-libp2p-static-key:" and the 32 bytes of the static X25519 key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from p2pshare_protocols import varint
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.identity_key import MAX_IDENTITY_KEY, verify_signature

SIGNED_PREFIX = b"noise-libp2p-static-key:"
MAX_MUXERS = 16
MAX_MUXER_NAME = 128


@dataclass(frozen=True, slots=True)
class Payload:
    """identity_key: libp2p's PublicKey message as sent; muxers: protocol names in the peer's order."""

    identity_key: bytes
    identity_sig: bytes
    muxers: tuple[str, ...] = ()


def encode_payload(payload: Payload) -> bytes:
    extensions = b"".join(_field(2, muxer.encode()) for muxer in payload.muxers)
    message = _field(1, payload.identity_key) + _field(2, payload.identity_sig)
    return message + _field(4, extensions) if extensions else message


def decode_payload(data: bytes) -> Payload:
    """Raises RemoteProtocolError for anything but a payload with a key and a signature. Unknown fields pass."""
    key = signature = b""
    muxers: list[str] = []
    for number, value in _fields(data):
        if number == 1:
            key = value
        elif number == 2:
            signature = value
        elif number == 4:
            muxers += _muxers(value)
    if not key or not signature:
        raise RemoteProtocolError("a Noise payload has no identity")
    if len(key) > MAX_IDENTITY_KEY or len(signature) > MAX_IDENTITY_KEY:
        raise RemoteProtocolError("a Noise payload's identity is too long")
    return Payload(key, signature, tuple(muxers[:MAX_MUXERS]))


def choose_muxer(initiator: Sequence[str], responder: Sequence[str]) -> str | None:
    """The first of the initiator's that the responder speaks too; both ends come to the same answer."""
    return next((muxer for muxer in initiator if muxer in responder), None)


def verify_identity(payload: Payload, static_public: bytes) -> None:
    """Raises RemoteProtocolError unless the identity key signed this static key."""
    _verify(payload.identity_key, payload.identity_sig, static_public)


@lru_cache(maxsize=256)  # a peer that comes again proves by the key exchange that it still holds the same static key
def _verify(identity_key: bytes, signature: bytes, static_public: bytes) -> None:
    verify_signature(identity_key, signature, SIGNED_PREFIX + static_public, "Noise key")


def _muxers(extensions: bytes) -> Iterator[str]:
    for number, value in _fields(extensions):
        if number == 2 and len(value) <= MAX_MUXER_NAME:
            yield value.decode(errors="replace")


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + varint.encode(len(value)) + value


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message; others are skipped."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            value, at = _bytes(data, at)
            yield tag >> 3, value
        elif kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
            if at > len(data):
                raise RemoteProtocolError("a protobuf field passes the end of its message")
        else:
            raise RemoteProtocolError("a protobuf field of an unknown wire type")


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _varint(data, at)
    if size > len(data) - at:
        raise RemoteProtocolError("a protobuf field passes the end of its message")
    return data[at : at + size], at + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise RemoteProtocolError("a protobuf number does not end")
