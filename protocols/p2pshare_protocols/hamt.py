"""HAMT-sharded UnixFS directories: how entries are spread over shards.

Source: specs.ipfs.tech/unixfs, "HAMT Directory".

An entry's name is hashed (murmur3-x64-64, as eight big-endian bytes); each level of the tree takes the next
log2(fan-out) bits. A slot holds an entry ("3FNAME") or, when several share it, the shard below ("3F").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from p2pshare_protocols import dagpb, unixfs
from p2pshare_protocols.cid import CID, DAG_PB
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.murmur3 import murmur3_x64_64

Block = tuple[CID, bytes]
FANOUT = 256


class Slot(NamedTuple):
    """What a shard's link is: an entry (`name` not empty) or a shard below (`name` empty)."""

    name: bytes
    link: dagpb.Link


def slots(node: unixfs.Node) -> list[Slot]:
    """The links of a decoded shard, their prefixes cut off."""
    width = len(f"{node.fanout - 1:X}")
    return [Slot((link.name or b"")[width:], link) for link in node.links]


def max_depth(fanout: int) -> int:
    """How many levels the 64 bits of the hash are enough for."""
    return 64 // (fanout.bit_length() - 1)


def build(
    links: Sequence[dagpb.Link],
    *,
    version: int = 1,
    hash: str = "sha256",
    mode: int | None = None,
    mtime: unixfs.Mtime | None = None,
) -> tuple[dagpb.Link, list[Block]]:
    """Shard a directory with fan-out 256: the unnamed link to its root, and its blocks, children before parents.

    `mode` and `mtime` stand in the root shard. Raises ValueError for two entries of one name.
    """
    hashed = [(murmur3_x64_64(link.name or b"").to_bytes(8, "big"), link) for link in links]
    maker = _Shards(version, hash)
    return maker.make(hashed, 0, mode=mode, mtime=mtime), maker.blocks


class _Shards:
    """Makes shards from the bottom up and keeps their blocks."""

    def __init__(self, version: int, hash: str) -> None:
        self._version = version
        self._hash = hash
        self.blocks: list[Block] = []

    def make(
        self,
        hashed: list[tuple[bytes, dagpb.Link]],
        level: int,
        *,
        mode: int | None = None,
        mtime: unixfs.Mtime | None = None,
    ) -> dagpb.Link:
        if level == 8:
            raise ValueError("two entries of a directory have one name, or names of one hash")
        buckets: dict[int, list[tuple[bytes, dagpb.Link]]] = {}
        for item in hashed:
            buckets.setdefault(item[0][level], []).append(item)
        links: list[dagpb.Link] = []
        bits = 0
        for slot in sorted(buckets):
            bucket = buckets[slot]
            bits |= 1 << slot
            prefix = b"%02X" % slot
            if len(bucket) == 1:
                cid, name, size = bucket[0][1]
                links.append(dagpb.Link(cid, prefix + (name or b""), size))
            else:
                below = self.make(bucket, level + 1)
                links.append(dagpb.Link(below.cid, prefix, below.size))
        bitfield = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
        data = unixfs.encode_data("shard", data=bitfield, fanout=FANOUT, mode=mode, mtime=mtime)
        block = dagpb.encode(links, data)
        cid = CID.of(DAG_PB, block, self._hash)
        if self._version == 0:
            cid = CID(0, DAG_PB, cid.multihash)
        self.blocks.append((cid, block))
        return dagpb.Link(cid, None, len(block) + sum(link.size for link in links))


def check_slot(name: bytes, path: tuple[int, ...], fanout: int) -> None:
    """Check that an entry stands where its name's hash says; `path` are the slots from the root shard down.

    Raises RemoteProtocolError. Without this check one name could stand in a directory twice.
    """
    bits = fanout.bit_length() - 1
    digest = murmur3_x64_64(name)
    for level, slot in enumerate(path):
        if slot != digest >> (64 - bits * (level + 1)) & (fanout - 1):
            raise RemoteProtocolError("an entry of a sharded directory is not where its name belongs")


def slot_of(name: bytes, level: int, fanout: int) -> int:
    """The slot of a name in a shard `level` steps below the root shard."""
    bits = fanout.bit_length() - 1
    return murmur3_x64_64(name) >> (64 - bits * (level + 1)) & (fanout - 1)
