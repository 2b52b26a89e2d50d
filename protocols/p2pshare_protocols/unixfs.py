"""UnixFS: what a block means as a file, a directory, a symlink or a HAMT shard. Source: specs.ipfs.tech/unixfs.

    Data { Type = 1; bytes Data = 2; uint64 filesize = 3; repeated uint64 blocksizes = 4; uint64 hashType = 5;
           uint64 fanout = 6; uint32 mode = 7; UnixTime mtime = 8 }
    UnixTime { int64 Seconds = 1; fixed32 FractionalNanoseconds = 2 }

`decode_node` refuses a node that contradicts itself: sizes that do not add up, links without sizes, a shard whose
bitfield does not match its links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from p2pshare_protocols import dagpb, varint
from p2pshare_protocols.cid import CID, DAG_PB, MAX_BLOCK, RAW
from p2pshare_protocols.errors import RemoteProtocolError

Kind = Literal["raw", "file", "directory", "symlink", "shard"]

MURMUR3_X64_64: Final = 0x22
MAX_FANOUT: Final = 1024  # what Kubo refuses to go over
MAX_TARGET: Final = 4096  # bytes of a symlink's target: Linux's PATH_MAX
MAX_NAME: Final = 1024  # bytes of one entry's name; file systems take 255, a shard's prefix comes on top
_TYPES: Final[dict[int, Kind]] = {0: "file", 1: "directory", 2: "file", 4: "symlink", 5: "shard"}
_NUMBERS: Final[dict[Kind, int]] = {"directory": 1, "file": 2, "symlink": 4, "shard": 5}
_VARINT_FIELDS: Final = frozenset((1, 3, 4, 5, 6, 7))


@dataclass(frozen=True, slots=True)
class Mtime:
    """Modification time: seconds since 1970 (may be negative) and nanoseconds."""

    seconds: int
    nanoseconds: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded block.

    `file_size` is the bytes of file content at and below this node (files and raw only, else 0); `block_sizes` says
    how many of them are behind each link; `data` is inline content, a symlink's target or a shard's bitfield.
    """

    kind: Kind
    links: tuple[dagpb.Link, ...] = ()
    data: bytes = b""
    file_size: int = 0
    block_sizes: tuple[int, ...] = ()
    fanout: int = 0
    mode: int | None = None
    mtime: Mtime | None = None


def encode_data(
    kind: Kind,
    *,
    data: bytes | None = None,
    file_size: int | None = None,
    block_sizes: tuple[int, ...] | list[int] = (),
    fanout: int | None = None,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> bytes:
    """The UnixFS message that goes into a dag-pb block's data, fields in order, as Kubo writes it."""
    number = varint.encode
    out = [b"\x08", number(_NUMBERS[kind])]
    if data is not None:
        out += (b"\x12", number(len(data)), data)
    if file_size is not None:
        out += (b"\x18", number(file_size))
    for size in block_sizes:
        out += (b" ", number(size))
    if fanout is not None:
        out += (b"\x28", number(MURMUR3_X64_64), b"\x30", number(fanout))
    if mode is not None:
        out += (b"\x38", number(mode))
    if mtime is not None:
        out.append(_encode_mtime(mtime))
    return b"".join(out)


def decode_node(cid: CID, block: bytes) -> Node:
    """What a block is, by its CID's codec. The caller has verified that the CID names the block.

    Raises RemoteProtocolError for another codec, a block over 2 MiB or a node that contradicts itself.
    """
    if cid.codec == RAW:
        if len(block) > MAX_BLOCK:
            raise RemoteProtocolError(f"a block is larger than {MAX_BLOCK} bytes")
        return Node("raw", data=block, file_size=len(block))
    if cid.codec != DAG_PB:
        raise RemoteProtocolError(f"a block has the codec 0x{cid.codec:x}, which is no part of UnixFS")
    links, data = dagpb.decode(block)
    if data is None:
        raise RemoteProtocolError("a dag-pb block has no UnixFS data")
    node = _decode_data(tuple(links), data)
    _check(node)
    return node


def _decode_data(links: tuple[dagpb.Link, ...], data: bytes) -> Node:
    numbers: dict[int, int] = {}
    sizes: list[int] = []
    content = b""
    mtime: Mtime | None = None
    seen: set[int] = set()
    at, end = 0, len(data)
    while at < end:
        tag, at = varint.decode(data, at)
        field, wire = tag >> 3, tag & 7
        if field in seen and field != 4:
            raise RemoteProtocolError("a UnixFS message has a field twice")
        seen.add(field)
        if field == 4 and wire == 2:  # packed, which protobuf readers take too
            at = _packed(data, at, sizes)
        elif field in _VARINT_FIELDS and wire == 0:
            value, at = varint.decode(data, at)
            if field == 4:
                sizes.append(value)
            else:
                numbers[field] = value
        elif field in (2, 8) and wire == 2:
            length, at = varint.decode(data, at)
            if at + length > end:
                raise RemoteProtocolError("a UnixFS message is cut off")
            if field == 2:
                content = data[at : at + length]
            else:
                mtime = _decode_mtime(data[at : at + length])
            at += length
        else:
            raise RemoteProtocolError("a UnixFS message has a field that does not exist")
    kind = _TYPES.get(numbers.get(1, -1))
    if kind is None:
        raise RemoteProtocolError("a UnixFS message is of a type that is not known")
    if kind == "shard" and numbers.get(5) != MURMUR3_X64_64:
        raise RemoteProtocolError("a directory shard uses a hash function that is not known")
    mode = numbers.get(7)
    if mode is not None and mode > 0xFFFFFFFF:
        raise RemoteProtocolError("a UnixFS mode is not a mode")
    size = numbers.get(3, len(content) + sum(sizes)) if kind == "file" else 0
    return Node(kind, links, content, size, tuple(sizes), numbers.get(6, 0), mode, mtime)


def _packed(data: bytes, at: int, sizes: list[int]) -> int:
    length, at = varint.decode(data, at)
    stop = at + length
    if stop > len(data):
        raise RemoteProtocolError("a UnixFS message is cut off")
    while at < stop:
        value, at = varint.decode(data, at)
        sizes.append(value)
    if at != stop:
        raise RemoteProtocolError("a UnixFS message is cut off")
    return at


def _check(node: Node) -> None:
    if node.kind == "file":
        if len(node.block_sizes) != len(node.links):
            raise RemoteProtocolError("a file node does not say the size of each of its links")
        if sum(node.block_sizes) + len(node.data) != node.file_size:
            raise RemoteProtocolError("the sizes of a file node do not add up")
    elif node.block_sizes:
        raise RemoteProtocolError("a node that is no file has block sizes")
    elif node.kind == "symlink":
        if node.links or not 0 < len(node.data) <= MAX_TARGET or b"\0" in node.data:
            raise RemoteProtocolError("a symlink has links, or no sensible target")
    elif node.kind == "shard":
        _check_shard(node)
    elif any(not link.name or len(link.name) > MAX_NAME for link in node.links):
        raise RemoteProtocolError("a directory has an entry without a name, or with one that is too long")


def _check_shard(node: Node) -> None:
    fanout = node.fanout
    if not 8 <= fanout <= MAX_FANOUT or fanout & (fanout - 1):
        raise RemoteProtocolError("a directory shard has a fan-out that is not allowed")
    bits = int.from_bytes(node.data, "big")
    if len(node.data) > fanout // 8 or bits.bit_count() != len(node.links):
        raise RemoteProtocolError("a directory shard's bitfield does not match its links")
    width = len(f"{fanout - 1:X}")
    rest = bits
    for link in node.links:
        slot = (rest & -rest).bit_length() - 1
        rest &= rest - 1
        name = link.name or b""
        if name[:width] != b"%0*X" % (width, slot) or len(name) > MAX_NAME + width:
            raise RemoteProtocolError("a directory shard's link is not in its slot, or its name is too long")


def _encode_mtime(mtime: Mtime) -> bytes:
    out = b"\x08" + _signed(mtime.seconds)
    if mtime.nanoseconds:
        out += b"\x15" + mtime.nanoseconds.to_bytes(4, "little")
    return b"B" + varint.encode(len(out)) + out


def _signed(value: int) -> bytes:
    """protobuf's int64: a negative number is a ten-byte varint of its two's complement."""
    if value >= 0:
        return varint.encode(value)
    value &= (1 << 64) - 1
    groups = [value >> shift & 127 for shift in range(0, 70, 7)]
    return bytes(group | 128 for group in groups[:-1]) + bytes(groups[-1:])


def _decode_mtime(data: bytes) -> Mtime:
    if data[:1] != b"\x08":
        raise RemoteProtocolError("a modification time has no seconds")
    if len(data) >= 11 and all(byte & 128 for byte in data[1:10]) and data[10] == 1:
        value = sum((byte & 127) << (7 * i) for i, byte in enumerate(data[1:11]))
        seconds, at = value - (1 << 64), 11
    else:
        seconds, at = varint.decode(data, 1)
    nanoseconds = 0
    if len(data) == at + 5 and data[at] == 0x15:
        nanoseconds = int.from_bytes(data[at + 1 :], "little")
        at += 5
    if at != len(data) or nanoseconds > 999_999_999:
        raise RemoteProtocolError("a modification time is malformed")
    return Mtime(seconds, nanoseconds)
