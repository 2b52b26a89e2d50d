"""dag-pb: the IPLD codec of UnixFS nodes. Source: ipld.io/specs/codecs/dag-pb/spec.

    PBNode { repeated PBLink Links = 2; optional bytes Data = 1 }       Links are written before Data
    PBLink { bytes Hash = 1; optional string Name = 2; optional uint64 Tsize = 3 }

Decoding is as strict as Kubo and Helia are with each other: fields of a link in order and once, links contiguous, no
unknown field; Data before Links (written by IPFS in its first years) is taken, as they take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from p2pshare_protocols import varint
from p2pshare_protocols.cid import CID, MAX_BLOCK
from p2pshare_protocols.errors import RemoteProtocolError

_SHORT: Final = 127 - 41 - varint.MAX_BYTES  # bytes of a name with which a link's length fits one byte
MAX_LINKS: Final = 65_536  # a 2 MiB block of the smallest sensible links (36-byte CIDs) has fewer


class Link(NamedTuple):
    """`name` is None when absent (not the same bytes as empty); `size` is the Tsize: bytes of the DAG below."""

    cid: CID
    name: bytes | None
    size: int


def encode(links: Sequence[Link], data: bytes | None) -> bytes:
    """The canonical block: links sorted by name (a stable sort, as the specification asks), then data."""
    out: list[bytes] = []
    number = varint.encode
    for cid, name, size in sorted(links, key=_name):
        binary = cid.binary
        if name is not None and len(name) <= _SHORT and len(binary) == 36:  # every length in it is one byte
            tsize = number(size)
            length = 41 + len(name) + len(tsize)
            out.append(b"\x12%c\n$%b\x12%c%b\x18%b" % (length, binary, len(name), name, tsize))
            continue
        if name is None:
            body = b"".join((b"\n", number(len(binary)), binary, b"\x18", number(size)))
        else:
            body = b"".join(
                (b"\n", number(len(binary)), binary, b"\x12", number(len(name)), name, b"\x18", number(size))
            )
        out += (b"\x12", number(len(body)), body)
    if data is not None:
        out += (b"\n", number(len(data)), data)
    return b"".join(out)


def decode(block: bytes) -> tuple[list[Link], bytes | None]:
    """Links in the block's order, and the data (None when absent). Raises RemoteProtocolError."""
    end = len(block)
    if end > MAX_BLOCK:
        raise RemoteProtocolError(f"a block is larger than {MAX_BLOCK} bytes")
    links: list[Link] = []
    data: bytes | None = None
    closed = False  # links ended when data came behind them
    at = 0
    while at < end:
        tag = block[at]
        if at + 1 < end and block[at + 1] < 128:
            length, at = block[at + 1], at + 2
        else:
            length, at = varint.decode(block, at + 1)
        stop = at + length
        if stop > end:
            raise RemoteProtocolError("a dag-pb block is cut off")
        if tag == 0x12:
            if closed or len(links) >= MAX_LINKS:
                raise RemoteProtocolError("a dag-pb block has its links in two places, or too many")
            links.append(_decode_common(block, at, stop) or _decode_link(block, at, stop))
        elif tag == 0x0A:
            if data is not None:
                raise RemoteProtocolError("a dag-pb block has its data twice")
            data = block[at:stop]
            closed = bool(links)
        else:
            raise RemoteProtocolError("a dag-pb block has a field that does not exist")
        at = stop
    return links, data


def _name(link: Link) -> bytes:
    return link.name or b""


def _decode_common(block: bytes, at: int, stop: int) -> Link | None:
    """A link as a directory has them: a CID of 36 bytes, a short name, a size. None when it is another."""
    if block[at : at + 2] != b"\n$" or stop - at < 42 or block[at + 38] != 0x12:
        return None
    length = block[at + 39]
    tag = at + 40 + length
    if length > 127 or tag + 1 >= stop or block[tag] != 0x18:
        return None
    size, end = varint.decode(block, tag + 1)
    if end != stop:
        return None
    return Link(CID.from_binary(block[at + 2 : at + 38]), block[at + 40 : tag], size)


def may_have_nodes(block: bytes) -> bool:
    """Whether a dag-pb block can have links to dag-pb blocks. False is certain, and known much sooner than by `decode`.

    A CIDv1's codec is in its second byte, a CIDv0 begins with its hash function's code and is a link's first field.
    """
    return b"\x01\x70" in block or b"\n\x22\x12\x20" in block


def _decode_link(block: bytes, at: int, stop: int) -> Link:
    cid: CID | None = None
    name: bytes | None = None
    size = 0
    last = 0
    while at < stop:
        tag = block[at]
        if tag <= last:
            raise RemoteProtocolError("a dag-pb link has its fields twice or out of order")
        last = tag
        value, at = varint.decode(block, at + 1)
        if tag == 0x18:
            size = value
            continue
        if at + value > stop:
            raise RemoteProtocolError("a dag-pb link is cut off")
        if tag == 0x0A:
            cid = CID.from_binary(block[at : at + value])
        elif tag == 0x12:
            name = block[at : at + value]
        else:
            raise RemoteProtocolError("a dag-pb link has a field that does not exist")
        at += value
    if at != stop:
        raise RemoteProtocolError("a dag-pb link is cut off")
    if cid is None:
        raise RemoteProtocolError("a dag-pb link has no hash")
    return Link(cid, name, size)
