"""Messages of the libp2p Kademlia DHT: protobuf, hand-read within bounds, written one way only.

Specified in protocols/kad.md; source: github.com/libp2p/specs, kad-dht. Unknown fields are skipped, fields may come
in any order, what we write is in ascending order with defaults left out. Only RemoteProtocolError is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

from . import multiaddr, peerid, varint
from .errors import RemoteProtocolError

MAX_MESSAGE = 256 * 1024
"""Bytes. go-libp2p allows 4 MiB; 20 closer peers and 100 providers with 16 addresses each stay below 128 KiB."""
MAX_KEY = 160
"""Bytes. A multihash of SHA-512 has 66, the longest identity multihash of `cid` 131."""
MAX_VALUE = 64 * 1024
MAX_CLOSER = 20
"""Peers taken from a reply: the k of the specification. What follows is not even parsed."""
MAX_PROVIDERS = 100
MAX_ADDRESSES = 16
MAX_FIELDS = 4096
_REMEMBERED = 8192
"""Names and addresses whose other form is kept: a DHT names the same peers again and again, and base58 costs 25 us."""


_USUAL_PEER = 512
"""Bytes; a longer description of a peer is not remembered, so that strangers cannot fill the memory."""


class Kind(IntEnum):
    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


class Connection(IntEnum):
    NOT_CONNECTED = 0
    CONNECTED = 1
    CAN_CONNECT = 2
    CANNOT_CONNECT = 3


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer as a message names it; addresses are multiaddrs without its own /p2p suffix."""

    peer_id: str
    addresses: tuple[str, ...] = ()
    connection: Connection = Connection.NOT_CONNECTED


@dataclass(frozen=True, slots=True)
class Record:
    key: bytes
    value: bytes
    time_received: str = ""  # RFC 3339, set by the receiver only


@dataclass(frozen=True, slots=True)
class Message:
    kind: Kind
    key: bytes = b""
    record: Record | None = None
    closer: tuple[Peer, ...] = ()
    providers: tuple[Peer, ...] = ()
    cluster_level: int = 0  # obsolete, always 0 in what we write


_id_to_bytes = lru_cache(_REMEMBERED)(peerid.peer_id_to_bytes)
_id_from_bytes = lru_cache(_REMEMBERED)(peerid.peer_id_from_bytes)
_address_to_binary = lru_cache(_REMEMBERED)(multiaddr.to_binary)


@lru_cache(_REMEMBERED)
def _address_from_binary(binary: bytes) -> tuple[str, str | None]:
    return multiaddr.split_peer(multiaddr.to_text(binary))


def _varint_field(number: int, value: int) -> bytes:
    return varint.encode(number << 3) + varint.encode(value) if value else b""


def _bytes_field(number: int, value: bytes) -> bytes:
    return varint.encode(number << 3 | 2) + varint.encode(len(value)) + value


@lru_cache(_REMEMBERED)
def _encode_peer(peer: Peer) -> bytes:
    out = bytearray(_bytes_field(1, _id_to_bytes(peer.peer_id)))
    for address in peer.addresses[:MAX_ADDRESSES]:
        out += _bytes_field(2, _address_to_binary(address))
    return bytes(out + _varint_field(3, peer.connection))


def _encode_record(record: Record) -> bytes:
    fields = ((1, record.key), (2, record.value), (5, record.time_received.encode("utf-8")))
    return b"".join(_bytes_field(number, value) for number, value in fields if value)


def encode(message: Message) -> bytes:
    """The bytes of a message, without length prefix. Peers and addresses must be valid: RemoteProtocolError if not."""
    out = bytearray(_varint_field(1, message.kind))
    if message.key:
        out += _bytes_field(2, message.key)
    if message.record is not None:
        out += _bytes_field(3, _encode_record(message.record))
    for peer in message.closer:
        out += _bytes_field(8, _encode_peer(peer))
    for peer in message.providers:
        out += _bytes_field(9, _encode_peer(peer))
    out += _varint_field(10, message.cluster_level)
    return bytes(out)


def frame(message: Message) -> bytes:
    """What goes on the stream: the length as a varint, then the message."""
    body = encode(message)
    return varint.encode(len(body)) + body


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(number, value of a varint field or 0, bytes of a length-delimited field or b"")."""
    at, end = 0, len(data)
    for _ in range(MAX_FIELDS):
        if at == end:
            return
        tag, at = varint.decode(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _wide_varint(data, at)
            yield number, value, b""
            continue
        if wire == 2:
            size, at = varint.decode(data, at)
        else:
            size = {1: 8, 5: 4}.get(wire, -1)
        if number == 0 or size < 0 or size > end - at:
            raise RemoteProtocolError("a DHT message is not protobuf")
        yield number if wire == 2 else 0, 0, data[at : at + size]
        at += size
    raise RemoteProtocolError("a DHT message has too many fields")


def _wide_varint(data: bytes, at: int) -> tuple[int, int]:
    """Protobuf writes a negative int32 as ten bytes, which a multiformats varint may not have."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise RemoteProtocolError("a DHT message is cut off")


def decode_peer(data: bytes) -> Peer | None:
    """A peer, or None when its ID is not one: others in the reply may be good. Bad addresses are left out."""
    return _decode_usual_peer(data) if len(data) <= _USUAL_PEER else _decode_peer(data)


@lru_cache(_REMEMBERED)
def _decode_usual_peer(data: bytes) -> Peer | None:
    return _decode_peer(data)


def _decode_peer(data: bytes) -> Peer | None:
    peer_id, connection = "", 0
    addresses: list[bytes] = []
    for number, value, body in _fields(data):
        if number == 1:
            try:
                peer_id = _id_from_bytes(body)
            except RemoteProtocolError:
                return None
        elif number == 2 and len(addresses) < MAX_ADDRESSES:
            addresses.append(body)
        elif number == 3:
            connection = value
    if not peer_id:
        return None
    shown = dict.fromkeys(_addresses(peer_id, addresses))
    return Peer(peer_id, tuple(shown), Connection(connection) if connection <= 3 else Connection.NOT_CONNECTED)


def _addresses(peer_id: str, binaries: Iterable[bytes]) -> Iterator[str]:
    for binary in binaries:
        try:
            address, whose = _address_from_binary(binary)
        except RemoteProtocolError:
            continue
        if address and whose in (None, peer_id):
            yield address


def _decode_record(data: bytes) -> Record:
    record = Record(b"", b"")
    for number, _, body in _fields(data):
        if number == 1 and len(body) <= MAX_KEY:
            record = replace(record, key=body)
        elif number == 2 and len(body) <= MAX_VALUE:
            record = replace(record, value=body)
        elif number in (1, 2):
            raise RemoteProtocolError("a DHT record is too long")
    return record  # timeReceived is the sender's claim and of no use to us


def decode(data: bytes) -> Message:
    """A message from its bytes. Raises RemoteProtocolError.

    At most MAX_CLOSER closer peers and MAX_PROVIDERS providers are parsed, the first ones; the rest is skipped.
    """
    if len(data) > MAX_MESSAGE:
        raise RemoteProtocolError("a DHT message is too long")
    kind, key, record, level = 0, b"", None, 0
    closer: list[bytes] = []
    providers: list[bytes] = []
    for number, value, body in _fields(data):
        if number == 1:
            kind = value
        elif number == 2:
            key = body
        elif number == 3:
            record = _decode_record(body)
        elif number == 8 and len(closer) < MAX_CLOSER:
            closer.append(body)
        elif number == 9 and len(providers) < MAX_PROVIDERS:
            providers.append(body)
        elif number == 10:
            level = value & 0x7FFFFFFF
    if kind > 5:
        raise RemoteProtocolError("a DHT message is of a kind that is not known")
    if len(key) > MAX_KEY:
        raise RemoteProtocolError("a DHT key is too long")
    return Message(Kind(kind), key, record, _peers(closer), _peers(providers), level)


def check_answer(question: Message, answer: Message, asker: str = "") -> None:
    """Raises RemoteProtocolError when `answer` cannot be one to this question of `asker` (a peer ID).

    The kind must be the question's, and the key where one is given: go-libp2p leaves it out of FIND_NODE's. Nobody
    names the asker to itself as a nearer node; without `asker` that is not looked at: js-libp2p 3 does it.
    """
    if answer.kind is not question.kind:
        raise RemoteProtocolError("a DHT answer of another kind than the question")
    if answer.key and answer.key != question.key:
        raise RemoteProtocolError("a DHT answer about another key than was asked for")
    if any(peer.peer_id == asker for peer in answer.closer):
        raise RemoteProtocolError("a DHT answer that names the asker as nearer")


def _peers(bodies: Iterable[bytes]) -> tuple[Peer, ...]:
    found = {peer.peer_id: peer for peer in map(decode_peer, bodies) if peer is not None}
    return tuple(found.values())
