"""/p2pshare/exchange/1.0.0: the frames. The specification is protocols/exchange.md.

A frame is a length (u32, big-endian), a header of that many bytes (a msgpack map), and then as many payload bytes
as the header declares. Both are bounded before they are read. `Parser` here handles one header at a time: the
payload never passes through it, so that it can be received straight into the buffer where it is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import msgpack

from p2pshare_protocols.cid import MAX_BINARY, MAX_BLOCK
from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError

PROTOCOL: Final = "/p2pshare/exchange/1.0.0"
MAX_HEADER: Final = 128 << 10  # bytes: 1024 CIDs of 64-byte digests and their framing fit
MAX_PAYLOAD: Final = MAX_BLOCK  # bytes a frame; a block is never split over frames
MAX_CIDS: Final = 1024  # a request or a frame
MAX_REQUESTS: Final = 256  # unanswered on one stream
PIECE: Final = 1 << 20  # bytes: the most that a piece of more than one leaf holds
MAX_QUEUE: Final = 0xFFFF
MAX_OTHERS: Final = 16  # peers a message
MAX_OTHERS_ADDRESSES: Final = 4  # of each
MAX_LEAVES: Final = MAX_PAYLOAD * 8  # what a bitmap of MAX_PAYLOAD can tell: 16 Mi leaves, 16 TiB


class Type(IntEnum):
    HAVE = 1
    NODES = 2
    BLOCKS = 3
    CANCEL = 4
    BAD = 5
    HOLDING = 16
    NODES_DATA = 17
    BLOCKS_DATA = 18
    REFUSED = 19


class Mark(IntEnum):
    """Stands in place of a block's size when the block does not come."""

    MISSING = -1  # not held
    CHANGED = -2  # held once; the file is not what it was
    BUSY = -3  # held, not now


class Holding(IntEnum):
    NOTHING = 0
    PART = 1
    ALL = 2


@dataclass(frozen=True, slots=True)
class Have:
    """What do you hold of the DAG under `root`? `fetching`: I get it, pass it on, and want to know others who do."""

    id: int
    root: bytes
    fetching: bool = False


@dataclass(frozen=True, slots=True)
class Nodes:
    """Send the dag-pb blocks under these CIDs, each CID's sub-DAG depth first, a block once."""

    id: int
    cids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Send these blocks, in this order."""

    id: int
    cids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """The answer to `id` is not wanted any more."""

    id: int


@dataclass(frozen=True, slots=True)
class Bad:
    """You sent me bytes that are not this block. There is no answer."""

    cid: bytes


@dataclass(frozen=True, slots=True)
class Other:
    """A peer that fetches the same: its ID and its addresses, both as bytes that nobody has checked."""

    peer: bytes
    addresses: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """Answer to Have. With PART the payload is a bitmap over the DAG's `leaves` leaves, depth first."""

    id: int
    holding: Holding
    leaves: int = 0
    size: int = 0  # bytes of all leaves, a hint; 0 when not known
    queue: int = 0  # the asker's place among those that wait for an upload slot; 0: it does not wait
    others: tuple[Other, ...] = ()  # who fetches the same

    @property
    def payload(self) -> int:
        return (self.leaves + 7) // 8 if self.holding is Holding.PART else 0


@dataclass(frozen=True, slots=True)
class NodesData:
    """Part of an answer to Nodes: blocks with their CIDs, in the payload one behind the other."""

    id: int
    cids: tuple[bytes, ...]
    sizes: tuple[int, ...]
    end: bool

    @property
    def payload(self) -> int:
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class BlocksData:
    """Part of an answer to Blocks: the next blocks in the order asked; a negative size is a Mark."""

    id: int
    sizes: tuple[int, ...]
    end: bool

    @property
    def payload(self) -> int:
        return sum(size for size in self.sizes if size > 0)


@dataclass(frozen=True, slots=True)
class Refused:
    """The request as a whole is not answered, or not further. `reason` is for a log."""

    id: int
    reason: str


Request = Have | Nodes | Blocks | Cancel | Bad
Answer = Held | NodesData | BlocksData | Refused
Message = Request | Answer


def encode(message: Message) -> bytes:
    """The frame's length and header; the payload, when there is one, follows it on the wire."""
    header: bytes = msgpack.packb(_fields(message), use_bin_type=True)
    if len(header) > MAX_HEADER:
        raise LocalProtocolError("an exchange header would be too long")
    return len(header).to_bytes(4, "big") + header


def _fields(message: Message) -> dict[str, Any]:
    match message:
        case Have(id, root, fetching):
            return {"t": Type.HAVE.value, "i": id, "r": root, **({"f": True} if fetching else {})}
        case Nodes(id, cids):
            return {"t": Type.NODES.value, "i": id, "c": cids}
        case Blocks(id, cids):
            return {"t": Type.BLOCKS.value, "i": id, "c": cids}
        case Cancel(id):
            return {"t": Type.CANCEL.value, "i": id}
        case Bad(cid):
            return {"t": Type.BAD.value, "r": cid}
        case Held(id, holding, leaves, size, queue, others):
            fields: dict[str, Any] = {"t": Type.HOLDING.value, "i": id, "h": holding.value, "n": leaves, "z": size}
            if queue:
                fields["q"] = queue
            if others:
                fields["p"] = [[other.peer, *other.addresses] for other in others]
            return fields
        case NodesData(id, cids, sizes, end):
            return {"t": Type.NODES_DATA.value, "i": id, "c": cids, "s": sizes, "e": end}
        case BlocksData(id, sizes, end):
            return {"t": Type.BLOCKS_DATA.value, "i": id, "s": sizes, "e": end}
        case Refused(id, reason):
            return {"t": Type.REFUSED.value, "i": id, "m": reason[:200]}


def header_length(prefix: bytes | bytearray | memoryview) -> int:
    """The header's length from the four bytes before it. Raises RemoteProtocolError."""
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= MAX_HEADER:
        raise RemoteProtocolError(f"an exchange header of {length} bytes")
    return length


def decode(header: bytes | bytearray | memoryview) -> Message:
    """A header. Raises RemoteProtocolError for anything that the specification does not allow."""
    try:
        fields = msgpack.unpackb(
            header,
            raw=False,
            strict_map_key=True,
            max_str_len=256,
            max_bin_len=MAX_BINARY,
            max_array_len=MAX_CIDS,
            max_map_len=16,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise RemoteProtocolError("an exchange header is not valid msgpack") from error
    if not isinstance(fields, dict):
        raise RemoteProtocolError("an exchange header is not a map")
    return _message(fields)


def _message(fields: dict[Any, Any]) -> Message:
    kind = _int(fields, "t", 0, 255)
    if kind == Type.BAD:
        return Bad(_cid(fields.get("r")))
    id = _int(fields, "i", 0, 0xFFFF_FFFF)
    match kind:
        case Type.HAVE:
            return Have(id, _cid(fields.get("r")), fields.get("f") is True)
        case Type.NODES:
            return Nodes(id, _cids(fields, least=1))
        case Type.BLOCKS:
            return Blocks(id, _cids(fields, least=1))
        case Type.CANCEL:
            return Cancel(id)
        case Type.HOLDING:
            return _held(id, fields)
        case Type.NODES_DATA:
            cids = _cids(fields, least=0)
            sizes = _sizes(fields, least=0)
            if len(cids) != len(sizes):
                raise RemoteProtocolError("an exchange frame has more blocks than names, or fewer")
            return NodesData(id, cids, sizes, _end(fields, bool(sizes)))
        case Type.BLOCKS_DATA:
            sizes = _sizes(fields, least=Mark.BUSY)
            return BlocksData(id, sizes, _end(fields, bool(sizes)))
        case Type.REFUSED:
            reason = fields.get("m", "")
            if not isinstance(reason, str) or len(reason) > 200:
                raise RemoteProtocolError("an exchange refusal has no readable reason")
            return Refused(id, reason)
    raise RemoteProtocolError(f"an exchange frame of unknown type {kind}")


def _held(id: int, fields: dict[Any, Any]) -> Held:
    holding = Holding(_int(fields, "h", 0, 2))
    queue = _int(fields, "q", 0, MAX_QUEUE) if "q" in fields else 0
    leaves, size = _int(fields, "n", 0, MAX_LEAVES), _int(fields, "z", 0, 1 << 62)
    return Held(id, holding, leaves, size, queue, _others(fields.get("p", [])))


def _others(value: object) -> tuple[Other, ...]:
    if not isinstance(value, list) or len(value) > MAX_OTHERS:
        raise RemoteProtocolError("an exchange header has no valid list of peers")
    others = []
    for row in value:
        if not isinstance(row, list) or not 2 <= len(row) <= 1 + MAX_OTHERS_ADDRESSES:
            raise RemoteProtocolError("an exchange header has something in place of a peer")
        peer, *addresses = row
        if not isinstance(peer, bytes) or not all(isinstance(address, bytes) for address in addresses):
            raise RemoteProtocolError("an exchange header has something in place of a peer's address")
        others.append(Other(peer, tuple(addresses)))
    return tuple(others)


def _int(fields: dict[Any, Any], key: str, least: int, most: int) -> int:
    value = fields.get(key)
    if type(value) is not int or not least <= value <= most:
        raise RemoteProtocolError(f"an exchange header has no valid {key!r}")
    return value


def _end(fields: dict[Any, Any], carries: bool) -> bool:
    end = fields.get("e")
    if type(end) is not bool:
        raise RemoteProtocolError("an exchange header has no valid 'e'")
    if not end and not carries:
        raise RemoteProtocolError("an exchange frame carries nothing and ends nothing")
    return end


def _cid(value: object) -> bytes:
    if not isinstance(value, bytes) or not 4 <= len(value) <= MAX_BINARY:
        raise RemoteProtocolError("an exchange header has something in place of a CID")
    return value


def _cids(fields: dict[Any, Any], least: int) -> tuple[bytes, ...]:
    value = fields.get("c")
    if not isinstance(value, list) or not least <= len(value) <= MAX_CIDS:
        raise RemoteProtocolError("an exchange header has no valid list of CIDs")
    return tuple(map(_cid, value))


def _sizes(fields: dict[Any, Any], least: int) -> tuple[int, ...]:
    value = fields.get("s")
    if not isinstance(value, list) or len(value) > MAX_CIDS:
        raise RemoteProtocolError("an exchange header has no valid list of sizes")
    total = 0
    for size in value:
        if type(size) is not int or not least <= size <= MAX_BLOCK:
            raise RemoteProtocolError("an exchange header has something in place of a size")
        total += max(size, 0)
    if total > MAX_PAYLOAD:
        raise RemoteProtocolError(f"an exchange frame declares {total} bytes")
    return tuple(value)


def split(payload: memoryview, sizes: Sequence[int]) -> list[memoryview | Mark]:
    """The blocks of a payload, or the mark where one did not come; no bytes are copied."""
    blocks: list[memoryview | Mark] = []
    at = 0
    for size in sizes:
        if size < 0:
            blocks.append(Mark(size))
        else:
            blocks.append(payload[at : at + size])
            at += size
    return blocks
