"""Building UnixFS DAGs: chunks become files, entries become directories, block by block.

The default profile is `unixfs-v1-2025` (IPIP-499); `unixfs-v0-2015` is there to test that what it makes can be read.
Nothing is kept but the links of unfinished nodes: a file of any size needs about 1024 links per level of the tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from p2pshare_protocols import dagpb, hamt, unixfs
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from p2pshare_protocols.unixfs import Mtime

Block = tuple[CID, bytes]


@dataclass(frozen=True, slots=True)
class Profile:
    """How content becomes a DAG. Sizes in bytes. `estimation` is what `shard_over` is compared with: the serialised
    directory block, or (2015) the sum of names' and binary CIDs' lengths."""

    chunk_size: int = 1 << 20
    max_links: int = 1024
    raw_leaves: bool = True
    version: int = 1
    shard_over: int = 262_144
    estimation: Literal["block", "links"] = "block"
    hash: str = "sha256"


V1_2025 = Profile()
V0_2015 = Profile(chunk_size=262_144, max_links=174, raw_leaves=False, version=0, estimation="links")


def with_hash(profile: Profile, hash: str) -> Profile:
    """The same profile with another hash function ("sha256" or "blake3")."""
    return replace(profile, hash=hash)


class Built(NamedTuple):
    """A finished DAG: its root, the bytes of file content in it (0 for directories), and its Tsize."""

    cid: CID
    size: int
    tsize: int


class FileBuilder:
    """Feed a file's leaves in order; get its inner nodes as they fill up, and at the end its root.

    With raw leaves only CID and size of a leaf are needed (`add_leaf`); `add_chunk` takes the bytes and works for every
    profile. Both return blocks that are complete (inner nodes, and with `add_chunk` leaves that are dag-pb).
    """

    def __init__(self, profile: Profile = V1_2025, *, mode: int | None = None, mtime: Mtime | None = None) -> None:
        self._profile = profile
        self._mode = mode
        self._mtime = mtime
        self._levels: list[list[Built]] = [[]]
        self._count = 0
        self._has_metadata = mode is not None or mtime is not None
        self._first: tuple[bytes, list[Block]] | None = None
        self.size = 0

    def add_leaf(self, cid: CID, size: int, tsize: int | None = None) -> list[Block]:
        """The next leaf. Returns the inner nodes that became complete."""
        self._count += 1
        self.size += size
        blocks: list[Block] = []
        self._push(0, Built(cid, size, size if tsize is None else tsize), blocks)
        return blocks

    def add_chunk(self, data: bytes) -> list[Block]:
        """The next chunk's bytes (at most the profile's chunk size). A raw leaf is not among the returned blocks."""
        if self._profile.raw_leaves:
            return self.add_leaf(CID.of(RAW, data, self._profile.hash), len(data))
        block = dagpb.encode((), unixfs.encode_data("file", data=data or None, file_size=len(data)))
        cid = _cid(self._profile, block)
        blocks = [(cid, block)]
        if self._count == 0 and self._has_metadata:
            self._first = (data, blocks)  # if it stays alone, it is written again with the metadata in it
            return self.add_leaf(cid, len(data), len(block))
        if self._first is not None:
            blocks = [*self._first[1], (cid, block)]
            self._first = None
        return [*blocks, *self.add_leaf(cid, len(data), len(block))]

    def finish(self) -> tuple[Built, list[Block]]:
        """The root and the last blocks, the root last. A single raw leaf is the root itself and no block of ours."""
        blocks: list[Block] = []
        if self._count == 0:
            blocks += self.add_chunk(b"")
        if self._first is not None:
            return self._single_with_metadata(self._first[0])
        level = 0
        while level + 1 < len(self._levels) or len(self._levels[level]) > 1:
            self._flush(level, blocks, is_root=level + 1 == len(self._levels))
            level += 1
        top = self._levels[level][0]
        if self._count == 1 and self._has_metadata:
            top = self._node([top], blocks, is_root=True)
        return top, blocks

    def _push(self, level: int, child: Built, blocks: list[Block]) -> None:
        if len(self._levels[level]) == self._profile.max_links:
            self._flush(level, blocks)
        self._levels[level].append(child)

    def _flush(self, level: int, blocks: list[Block], *, is_root: bool = False) -> None:
        children = self._levels[level]
        self._levels[level] = []
        if level + 1 == len(self._levels):
            self._levels.append([])
        self._push(level + 1, self._node(children, blocks, is_root), blocks)

    def _node(self, children: list[Built], blocks: list[Block], is_root: bool) -> Built:
        size = sum(child.size for child in children)
        data = unixfs.encode_data(
            "file",
            file_size=size,
            block_sizes=[child.size for child in children],
            mode=self._mode if is_root else None,
            mtime=self._mtime if is_root else None,
        )
        block = dagpb.encode([dagpb.Link(child.cid, b"", child.tsize) for child in children], data)
        cid = _cid(self._profile, block)
        blocks.append((cid, block))
        return Built(cid, size, len(block) + sum(child.tsize for child in children))

    def _single_with_metadata(self, data: bytes) -> tuple[Built, list[Block]]:
        message = unixfs.encode_data("file", data=data or None, file_size=len(data), mode=self._mode, mtime=self._mtime)
        block = dagpb.encode((), message)
        cid = _cid(self._profile, block)
        return Built(cid, len(data), len(block)), [(cid, block)]


def build_directory(
    entries: Iterable[dagpb.Link],
    profile: Profile = V1_2025,
    *,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> tuple[Built, list[Block]]:
    """A directory of named links: one block, or a HAMT where that block would be over `shard_over`.

    Raises ValueError for two entries of one name or one without a name.
    """
    links = list(entries)
    if len({link.name for link in links}) != len(links) or not all(link.name for link in links):
        raise ValueError("a directory's entries need different names")
    block = dagpb.encode(links, unixfs.encode_data("directory", mode=mode, mtime=mtime))
    estimate = len(block)
    if profile.estimation == "links":
        estimate = sum(len(link.name or b"") + len(link.cid.binary) for link in links)
    if estimate > profile.shard_over:
        root, blocks = hamt.build(links, version=profile.version, hash=profile.hash, mode=mode, mtime=mtime)
        return Built(root.cid, 0, root.size), blocks
    cid = _cid(profile, block)
    return Built(cid, 0, len(block) + sum(link.size for link in links)), [(cid, block)]


def build_symlink(
    target: bytes, profile: Profile = V1_2025, *, mode: int | None = None, mtime: Mtime | None = None
) -> tuple[Built, Block]:
    """A symlink; its target is kept as it is. Its size is 0: it adds nothing to a file's bytes."""
    block = dagpb.encode((), unixfs.encode_data("symlink", data=target, mode=mode, mtime=mtime))
    cid = _cid(profile, block)
    return Built(cid, 0, len(block)), (cid, block)


def _cid(profile: Profile, block: bytes) -> CID:
    cid = CID.of(DAG_PB, block, profile.hash)
    return cid if profile.version == 1 else CID(0, DAG_PB, cid.multihash)
