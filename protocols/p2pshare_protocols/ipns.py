"""Values that the DHT keeps: IPNS records under /ipns/ and public keys under /pk/, with what makes one valid.

Specified in protocols/kad.md; sources: specs.ipfs.tech/ipns/ipns-record and github.com/libp2p/specs, kad-dht. Only
signature V2, over the CBOR data, counts. The CBOR here is one flat map of five known keys; reading just that takes 40
lines, while a general decoder would accept tags, nesting and indefinite lengths that we then had to refuse again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from . import identity_key, peerid, varint
from .errors import RemoteProtocolError

MAX_RECORD = 10 * 1024
"""Bytes; the specification's bound of an IPNS record."""
PREFIX = b"/ipns/"
KEY_PREFIX = b"/pk/"
SIGNED = b"ipns-signature:"
_TAKEN = {"Value", "Validity", "ValidityType", "Sequence", "TTL"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a valid IPNS record says. `ends` is seconds since 1970."""

    value: bytes
    sequence: int
    ends: float
    ttl: int


def check(key: bytes, value: bytes, now: float) -> None:
    """Raises RemoteProtocolError unless `value` may stand under `key` at the wall time `now`."""
    if key.startswith(PREFIX):
        entry = read(key, value)
        if entry.ends <= now:
            raise RemoteProtocolError("an IPNS record has ended")
    elif key.startswith(KEY_PREFIX):
        _check_key(key[len(KEY_PREFIX) :], value)
    else:
        raise RemoteProtocolError("a DHT value is of a kind that is not kept")


def better(key: bytes, one: bytes, other: bytes) -> bool:
    """Whether `one` is to be kept rather than `other`, both valid: the higher sequence, then the later end."""
    if not key.startswith(PREFIX):
        return False
    first, second = read(key, one), read(key, other)
    return (first.sequence, first.ends) > (second.sequence, second.ends)


def read(key: bytes, record: bytes) -> Entry:
    """A record whose signature is right. `key` is "/ipns/" and the multihash of its publisher's peer ID."""
    if len(record) > MAX_RECORD:
        raise RemoteProtocolError("an IPNS record is too long")
    fields = _protobuf(record)
    data, signature = fields.get(9, b""), fields.get(8, b"")
    name = key[len(PREFIX) :]
    public = _public_key(name, fields.get(7, b""))
    identity_key.verify_signature(public, signature, SIGNED + data, "IPNS record")
    said = _cbor(data)
    value, validity = said.get("Value"), said.get("Validity")
    sequence, ttl = said.get("Sequence"), said.get("TTL", 0)
    if not isinstance(value, bytes) or not isinstance(validity, bytes) or said.get("ValidityType") != 0:
        raise RemoteProtocolError("an IPNS record says not what it must")
    if not isinstance(sequence, int) or not isinstance(ttl, int):
        raise RemoteProtocolError("an IPNS record has no sequence")
    if (1 in fields and fields[1] != value) or (4 in fields and fields[4] != validity):
        raise RemoteProtocolError("an IPNS record says two things")
    return Entry(value, sequence, _seconds(validity), ttl)


def make(value: bytes, *, sequence: int, validity: bytes, ttl: int, signature: bytes) -> bytes:
    """The protobuf of a record whose `signature` is over `to_sign` of the same; with the fields of old readers."""
    data = cbor(value, sequence=sequence, validity=validity, ttl=ttl)
    out = _field(1, value) + _field(4, validity) + b"\x28" + varint.encode(sequence) + b"\x30" + varint.encode(ttl)
    return out + _field(8, signature) + _field(9, data)


def to_sign(value: bytes, *, sequence: int, validity: bytes, ttl: int) -> bytes:
    return SIGNED + cbor(value, sequence=sequence, validity=validity, ttl=ttl)


def cbor(value: bytes, *, sequence: int, validity: bytes, ttl: int) -> bytes:
    """The DAG-CBOR of a record: keys by length, then by bytes."""
    out = b"\xa5" + _head(3, 3) + b"TTL" + _head(0, ttl)
    out += _head(3, 5) + b"Value" + _head(2, len(value)) + value
    out += _head(3, 8) + b"Sequence" + _head(0, sequence)
    out += _head(3, 8) + b"Validity" + _head(2, len(validity)) + validity
    return out + _head(3, 12) + b"ValidityType" + _head(0, 0)


def _field(number: int, value: bytes) -> bytes:
    return varint.encode(number << 3 | 2) + varint.encode(len(value)) + value


def _head(major: int, number: int) -> bytes:
    for extra, size in enumerate((1, 2, 4, 8)):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << 8 * size:
            return bytes([major << 5 | 24 + extra]) + number.to_bytes(size, "big")
    raise ValueError("a number is too big for CBOR")


def _protobuf(record: bytes) -> dict[int, bytes]:
    """The fields that are bytes; numbers are left out, since the CBOR says them."""
    fields: dict[int, bytes] = {}
    at = 0
    for _ in range(64):
        if at == len(record):
            return fields
        tag, at = varint.decode(record, at)
        if tag & 7 == 0:
            _, at = varint.decode(record, at)
        elif tag & 7 == 2:
            size, at = varint.decode(record, at)
            if size > len(record) - at:
                break
            fields[tag >> 3] = record[at : at + size]
            at += size
        else:
            break
    raise RemoteProtocolError("an IPNS record is not protobuf")


def _cbor(data: bytes) -> dict[str, int | bytes]:
    """A flat map of text to numbers and bytes, of definite lengths, without anything after it."""
    count, major, at = _item(data, 0)
    if major != 5 or count > 32:
        raise RemoteProtocolError("an IPNS record's data are no map")
    said: dict[str, int | bytes] = {}
    for _ in range(count):
        size, major, at = _item(data, at)
        name = data[at : at + size]
        if major != 3 or size > len(data) - at:
            raise RemoteProtocolError("an IPNS record's data are not CBOR")
        at += size
        number, major, at = _item(data, at)
        value: int | bytes = number
        if major in (2, 3):
            if number > len(data) - at:
                raise RemoteProtocolError("an IPNS record's data are cut off")
            value = data[at : at + number]
            at += number
        elif major != 0:
            raise RemoteProtocolError("an IPNS record's data hold what they must not")
        text = name.decode("utf-8", "replace")
        if text in said:
            raise RemoteProtocolError("an IPNS record says one thing twice")
        if text in _TAKEN and major != 3:
            said[text] = value
    if at != len(data):
        raise RemoteProtocolError("an IPNS record's data go on after their end")
    return said


def _item(data: bytes, at: int) -> tuple[int, int, int]:
    """(number, major type, where what follows begins)."""
    if at >= len(data):
        raise RemoteProtocolError("an IPNS record's data are cut off")
    major, number = data[at] >> 5, data[at] & 31
    at += 1
    if number < 24:
        return number, major, at
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(number, 0)
    if not size or size > len(data) - at:
        raise RemoteProtocolError("an IPNS record's data are not CBOR")
    return int.from_bytes(data[at : at + size], "big"), major, at + size


def _public_key(name: bytes, embedded: bytes) -> bytes:
    """The encoded public key of a name: in the name itself, or given beside and hashing to it."""
    inline = peerid.ed25519_from_peer_id(peerid.peer_id_from_bytes(name))
    if inline is not None:
        return peerid.encode_public_key(1, inline)
    _check_key(name, embedded)
    return embedded


def _check_key(name: bytes, public: bytes) -> None:
    peerid.decode_public_key(public)
    if name != b"\x12\x20" + hashlib.sha256(public).digest() and name != b"\x00" + bytes([len(public)]) + public:
        raise RemoteProtocolError("a public key is not the one of its name")


def _seconds(validity: bytes) -> float:
    """RFC 3339 in UTC, with up to nanoseconds, as seconds since 1970."""
    try:
        text = validity.decode("ascii")
        whole, _, rest = text.removesuffix("Z").partition(".")
        if not text.endswith("Z") or (rest and not rest.isdigit()) or len(rest) > 9:
            raise ValueError
        moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        return moment.timestamp() + (int(rest) / 10 ** len(rest) if rest else 0.0)
    except (ValueError, OverflowError):
        raise RemoteProtocolError("an IPNS record does not say when it ends") from None
