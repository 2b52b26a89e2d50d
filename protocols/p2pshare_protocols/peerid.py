"""Peer IDs and public keys of libp2p. Source: github.com/libp2p/specs, peer-ids.

A peer ID is the multihash of the protobuf of the public key: inline (identity) up to 42 bytes, SHA-256 above.
As text it is base58btc ("12D3Koo…" for Ed25519, "Qm…" for RSA) or a CIDv1 of codec libp2p-key.
"""

from __future__ import annotations

import hashlib
from typing import Final

from p2pshare_protocols import cid, multibase, varint
from p2pshare_protocols.errors import RemoteProtocolError

RSA: Final = 0
ED25519: Final = 1
SECP256K1: Final = 2
ECDSA: Final = 3
MAX_INLINE_KEY: Final = 42  # bytes of protobuf; longer keys are hashed
MAX_KEY: Final = 4096  # bytes; an RSA key of 16 kbit has 2 KiB
_ED25519_PREFIX: Final = b"\x00\x24\x08\x01\x12\x20"


def encode_public_key(key_type: int, data: bytes) -> bytes:
    """The deterministic protobuf of a public key: field 1 the type, field 2 the key."""
    return b"\x08" + varint.encode(key_type) + b"\x12" + varint.encode(len(data)) + data


def decode_public_key(encoded: bytes) -> tuple[int, bytes]:
    """Type and key bytes. Raises RemoteProtocolError unless it is exactly the deterministic encoding."""
    if len(encoded) > MAX_KEY or encoded[:1] != b"\x08":
        raise RemoteProtocolError("a public key is not encoded as libp2p encodes it")
    key_type, at = varint.decode(encoded, 1)
    if key_type > ECDSA or encoded[at : at + 1] != b"\x12":
        raise RemoteProtocolError("a public key is of an unknown type")
    length, at = varint.decode(encoded, at + 1)
    data = encoded[at:]
    if len(data) != length or (key_type == ED25519 and length != 32):
        raise RemoteProtocolError("a public key has a wrong length")
    return key_type, bytes(data)


def peer_id_from_public_key(encoded: bytes) -> str:
    """The peer ID of an encoded public key."""
    if len(encoded) <= MAX_INLINE_KEY:
        return multibase.base58_encode(b"\x00" + varint.encode(len(encoded)) + encoded)
    return multibase.base58_encode(b"\x12\x20" + hashlib.sha256(encoded).digest())


def peer_id_from_ed25519(public: bytes) -> str:
    """The peer ID of a raw Ed25519 public key of 32 bytes."""
    if len(public) != 32:
        raise ValueError("an Ed25519 public key has 32 bytes")
    return multibase.base58_encode(_ED25519_PREFIX + public)


def peer_id_from_bytes(binary: bytes) -> str:
    """The text of a peer ID's multihash. Raises RemoteProtocolError when it is none."""
    if binary[:2] == b"\x12\x20" and len(binary) == 34:
        return multibase.base58_encode(binary)
    if 2 < len(binary) <= MAX_INLINE_KEY + 2 and binary[0] == 0 and binary[1] == len(binary) - 2:
        decode_public_key(binary[2:])
        return multibase.base58_encode(binary)
    raise RemoteProtocolError("this is not a peer ID")


def peer_id_to_bytes(peer_id: str) -> bytes:
    """The multihash of a peer ID as text, base58btc or CID. Raises RemoteProtocolError."""
    if len(peer_id) > multibase.MAX_TEXT or not peer_id:
        raise RemoteProtocolError("this is not a peer ID")
    if peer_id[0] in "1Q":
        binary = multibase.base58_decode(peer_id)
    else:
        name = cid.CID.parse(peer_id)
        if name.codec != cid.LIBP2P_KEY:
            raise RemoteProtocolError("this CID does not name a peer")
        binary = name.multihash
    peer_id_from_bytes(binary)
    return binary


def check_peer_id(peer_id: str) -> str:
    """The canonical base58btc form of a peer ID. Raises RemoteProtocolError when it is none."""
    return peer_id_from_bytes(peer_id_to_bytes(peer_id))


def ed25519_from_peer_id(peer_id: str) -> bytes | None:
    """The Ed25519 key that stands in the peer ID, or None when it holds another key. Raises RemoteProtocolError."""
    binary = peer_id_to_bytes(peer_id)
    if binary.startswith(_ED25519_PREFIX) and len(binary) == len(_ED25519_PREFIX) + 32:
        return binary[len(_ED25519_PREFIX) :]
    return None
