"""AutoNAT v2: whether others can reach an address of ours. Specified in protocols/autonat.md.

Source: github.com/libp2p/specs, autonat/autonat-v2.md. Unknown fields are skipped; only RemoteProtocolError is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from . import multiaddr, varint
from .errors import RemoteProtocolError

DIAL_REQUEST: Final = "/libp2p/autonat/2/dial-request"
DIAL_BACK: Final = "/libp2p/autonat/2/dial-back"

MAX_MESSAGE: Final = 8192
"""Bytes, as go-libp2p has it: 4096 of data, or 50 addresses of usual length."""
MAX_ADDRESSES: Final = 50
MAX_DATA: Final = 4096
LEAST_DATA, MOST_DATA = 30_000, 100_000
"""Bytes that a server asks for before it dials another IP address than the asker's."""
_MAX_FIELDS = 64


class Status(IntEnum):
    """Of a whole request."""

    INTERNAL_ERROR = 0
    REJECTED = 100
    DIAL_REFUSED = 101
    OK = 200


class DialStatus(IntEnum):
    """Of the address that was dialled."""

    UNUSED = 0
    DIAL_ERROR = 100
    DIAL_BACK_ERROR = 101
    OK = 200


@dataclass(frozen=True, slots=True)
class DialRequest:
    """Addresses in the order in which they matter; one that we cannot read is "": the others keep their place."""

    addresses: tuple[str, ...]
    nonce: int


@dataclass(frozen=True, slots=True)
class DialResponse:
    status: Status
    index: int = 0
    dial_status: DialStatus = DialStatus.UNUSED


@dataclass(frozen=True, slots=True)
class DialDataRequest:
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class DialDataResponse:
    data: bytes


Message = DialRequest | DialResponse | DialDataRequest | DialDataResponse


def _number(field: int, value: int) -> bytes:
    return varint.encode(field << 3) + varint.encode(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return varint.encode(field << 3 | 2) + varint.encode(len(value)) + value


def _fixed(field: int, value: int) -> bytes:
    return varint.encode(field << 3 | 1) + value.to_bytes(8, "little")


def encode(message: Message) -> bytes:
    """A message of the dial-request stream, with its length before it."""
    match message:
        case DialRequest(addresses, nonce):
            parts = [_bytes(1, multiaddr.to_binary(address)) for address in addresses]
            body = _bytes(1, b"".join(parts) + _fixed(2, nonce))
        case DialResponse(status, index, dial_status):
            body = _bytes(2, _number(1, status) + _number(2, index) + _number(3, dial_status))
        case DialDataRequest(index, count):
            body = _bytes(3, _number(1, index) + _number(2, count))
        case DialDataResponse(data):
            body = _bytes(4, _bytes(1, data))
    return varint.encode(len(body)) + body


def decode(body: bytes) -> Message:
    """A message without its length."""
    found: Message | None = None
    for field, value in _fields(body):
        if field in _READERS:
            found = _READERS[field](_as_bytes(value))
    if found is None:
        raise RemoteProtocolError("an AutoNAT message says nothing")
    return found


def encode_dial_back(nonce: int) -> bytes:
    """What the server says on the stream back, with its length."""
    body = _fixed(1, nonce)
    return varint.encode(len(body)) + body


def decode_dial_back(body: bytes) -> int:
    """The nonce."""
    return _as_nonce(dict(_fields(body)).get(1))


DIAL_BACK_OK: Final = b"\x00"
"""The answer to it, with its length: an empty DialBackResponse, whose status is OK."""


def _read_request(body: bytes) -> DialRequest:
    addresses: list[str] = []
    nonce: int | None = None
    for field, value in _fields(body):
        if field == 1 and len(addresses) < MAX_ADDRESSES:
            addresses.append(_address(_as_bytes(value)))
        elif field == 2:
            nonce = _as_nonce(value)
    return DialRequest(tuple(addresses), _as_nonce(None) if nonce is None else nonce)


def _address(binary: bytes) -> str:
    try:
        return multiaddr.split_peer(multiaddr.to_text(binary))[0]
    except RemoteProtocolError:
        return ""


def _read_response(body: bytes) -> DialResponse:
    numbers = _numbers(body)
    try:
        return DialResponse(Status(numbers.get(1, 0)), numbers.get(2, 0), DialStatus(numbers.get(3, 0)))
    except ValueError:
        raise RemoteProtocolError("an AutoNAT response has a status that is not known") from None


def _read_data_request(body: bytes) -> DialDataRequest:
    numbers = _numbers(body)
    return DialDataRequest(numbers.get(1, 0), numbers.get(2, 0))


def _read_data(body: bytes) -> DialDataResponse:
    data = dict(_fields(body)).get(1, b"")
    return DialDataResponse(_as_bytes(data))


_READERS: dict[int, Callable[[bytes], Message]] = {
    1: _read_request,
    2: _read_response,
    3: _read_data_request,
    4: _read_data,
}


def _numbers(body: bytes) -> dict[int, int]:
    return {field: value for field, value in _fields(body) if isinstance(value, int)}


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise RemoteProtocolError("an AutoNAT message has a number where bytes belong")
    return value


def _as_nonce(value: int | bytes | None) -> int:
    if not isinstance(value, bytes) or len(value) != 8:
        raise RemoteProtocolError("an AutoNAT message has no nonce")
    return int.from_bytes(value, "little")


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a protobuf: numbers of varints, bytes of the rest."""
    at = count = 0
    while at < len(body):
        count += 1
        tag, at = varint.decode(body, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint.decode(body, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = varint.decode(body, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise RemoteProtocolError("an AutoNAT message is no protobuf")
        if size > len(body) - at or count > _MAX_FIELDS:
            raise RemoteProtocolError("an AutoNAT message is cut off, or has too many fields")
        yield tag >> 3, body[at : at + size]
        at += size
