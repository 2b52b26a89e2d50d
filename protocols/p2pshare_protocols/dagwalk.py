"""Walking a stranger's UnixFS DAG from its root, block by block, to a flat plan of what has to be fetched.

Sans-IO: `wanted` names the inner blocks that are needed next, `feed` takes a block (the caller has checked that its CID
names it), `plan` gives the result. A block that stands in many places is asked for and kept once; the plan, where it
counts in every place, is bounded by the totals, so a small DAG that unfolds without end is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from p2pshare_protocols import dagpb, hamt, unixfs
from p2pshare_protocols.cid import CID, DAG_PB, MAX_BLOCK, RAW
from p2pshare_protocols.dagplan import Entry, Inline, Leaf, Plan
from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.ordered import Ordered
from p2pshare_protocols.unixfs import Node

MAX_FILE_DEPTH: Final = 16  # levels of nodes in one file; 1024 links a node make 3 levels for 1 PiB
MAX_COMPONENTS: Final = 10_000_000  # of all paths together


class _Place(NamedTuple):
    """Where a wanted block stands: what it must be there."""

    kind: str  # "entry", "part" (of a file) or "shard" (below another)
    depth: int  # directories above
    level: int = 0  # nodes above it in the same file or sharded directory
    size: int = 0  # a part's bytes, as its parent says
    fanout: int = 0
    slots: tuple[int, ...] = ()


class DagWalk:
    """One walk. Raises RemoteProtocolError from every method that meets a DAG that is malformed or over the bounds.

    `max_entries` files, directories and symlinks; `max_nodes` links in all; `max_depth` directories in each other.
    """

    def __init__(
        self, root: CID, *, max_entries: int = 1_048_576, max_nodes: int = 2_000_000, max_depth: int = 64
    ) -> None:
        self._root = root.v1
        self._max_entries = max_entries
        self._max_nodes = max_nodes
        self._max_depth = max_depth
        self._nodes: dict[CID, Node] = {}
        self._places: dict[CID, _Place] = {}
        self._shards: dict[CID, tuple[int, ...]] = {}
        self._pending: Ordered[CID] = Ordered()
        self._links = 0
        _check_codec(self._root)
        if self._root.codec == DAG_PB:
            self._want([(self._root, _Place("entry", 0))], None)

    def wanted(self, limit: int | None = None) -> list[CID]:
        """Inner blocks (CIDv1) not yet given, each once, in DFS order: the first `limit` of them, or all."""
        return self._pending.first(limit)

    @property
    def done(self) -> bool:
        return not self._pending

    @property
    def nodes(self) -> int:
        """Inner blocks given so far."""
        return len(self._nodes)

    def feed(self, cid: CID, block: bytes) -> bool:
        """Give a block whose hash was checked. False, and nothing done, when it is not wanted (any more)."""
        cid = cid.v1
        if cid not in self._pending:
            return False
        place = self._places[cid]
        node = unixfs.decode_node(cid, block)
        self._links += len(node.links) + 1
        if self._links > self._max_nodes:
            raise RemoteProtocolError(f"a DAG has more than {self._max_nodes} nodes")
        _check_place(node, place)
        children = self._children(cid, node, place)
        self._nodes[cid] = node
        self._want(children, cid)
        del self._places[cid]
        return True

    def plan(self) -> Plan:
        """The plan; call it once `done`. Takes time and memory in proportion to the entries and leaves."""
        if not self.done:
            raise LocalProtocolError("the plan of a DAG that is not complete")
        return _Planner(self._nodes, self._max_entries, self._max_nodes, self._max_depth).plan(self._root)

    def _want(self, children: list[tuple[CID, _Place]], parent: CID | None) -> None:
        """Put what is new of `children` where `parent` stood in the order."""
        at = parent
        for cid, place in children:
            if place.kind == "shard" and self._shards.setdefault(cid, place.slots) != place.slots:
                raise RemoteProtocolError("a directory shard stands in two places")
            if cid in self._nodes or cid in self._pending:
                continue
            self._places[cid] = place
            self._pending.insert_after(at, cid)
            at = cid
        if parent is not None:
            self._pending.remove(parent)
        for cid, _ in children:
            inline = cid.inline
            if inline is not None:
                self.feed(cid, inline)

    def _children(self, cid: CID, node: Node, place: _Place) -> list[tuple[CID, _Place]]:
        if node.kind == "file":
            return list(_parts(node, place))
        if node.kind == "symlink":
            return []
        if node.kind == "directory":
            names = {link.name for link in node.links}
            if len(names) != len(node.links):
                raise RemoteProtocolError("a directory has two entries of one name")
        if place.depth >= self._max_depth:
            raise RemoteProtocolError(f"a DAG has more than {self._max_depth} directories in each other")
        if node.kind == "shard":
            slots = place.slots if place.kind == "shard" else ()
            if self._shards.setdefault(cid, slots) != slots:
                raise RemoteProtocolError("a directory shard stands in two places")
        return list(_entries(node, place))


def _check_codec(cid: CID) -> None:
    if cid.codec not in {RAW, DAG_PB}:
        raise RemoteProtocolError(f"a CID has the codec 0x{cid.codec:x}, which is no part of UnixFS")


def _check_place(node: Node, place: _Place) -> None:
    if place.kind == "part" and (node.kind != "file" or node.file_size != place.size):
        raise RemoteProtocolError("a part of a file is not what the node above it says")
    if place.kind == "shard" and (node.kind != "shard" or node.fanout != place.fanout):
        raise RemoteProtocolError("a directory shard is not what the node above it says")


def _parts(node: Node, place: _Place) -> Iterator[tuple[CID, _Place]]:
    level = place.level + 1 if place.kind == "part" else 1
    for link, size in zip(node.links, node.block_sizes, strict=True):
        _check_part(link, size, level)
        if link.cid.codec == DAG_PB:
            yield link.cid.v1, _Place("part", place.depth, level, size)


def _check_part(link: dagpb.Link, size: int, level: int) -> None:
    _check_codec(link.cid)
    if level > MAX_FILE_DEPTH:
        raise RemoteProtocolError(f"a file has more than {MAX_FILE_DEPTH} levels of nodes")
    if link.cid.codec == RAW:
        inline = link.cid.inline
        if size > MAX_BLOCK or (inline is not None and len(inline) != size):
            raise RemoteProtocolError("a part of a file is not what the node above it says")


def _entries(node: Node, place: _Place) -> Iterator[tuple[CID, _Place]]:
    below = _Place("entry", place.depth + 1)
    if node.kind == "directory":
        for link in node.links:
            _check_codec(link.cid)
            if link.cid.codec == DAG_PB:
                yield link.cid.v1, below
        return
    above = place.slots if place.kind == "shard" else ()
    if len(above) >= hamt.max_depth(node.fanout):
        raise RemoteProtocolError("a sharded directory is deeper than its hash is long")
    width = len(f"{node.fanout - 1:X}")
    for name, link in hamt.slots(node):
        _check_codec(link.cid)
        slots = (*above, int((link.name or b"")[:width], 16))
        if name:
            hamt.check_slot(name, slots, node.fanout)
            if link.cid.codec == DAG_PB:
                yield link.cid.v1, below
        elif link.cid.codec == DAG_PB:
            yield link.cid.v1, _Place("shard", place.depth, len(slots), 0, node.fanout, slots)
        else:
            raise RemoteProtocolError("a directory shard is not what the node above it says")


class _Planner:
    """Unfolds known nodes into entries. Every place of every block is checked and counted here."""

    def __init__(self, nodes: dict[CID, Node], max_entries: int, max_nodes: int, max_depth: int) -> None:
        self._nodes = nodes
        self._max_entries = max_entries
        self._max_nodes = max_nodes
        self._max_depth = max_depth
        self._count = 0
        self._components = 0

    def plan(self, root: CID) -> Plan:
        entries: list[Entry] = []
        # Deepest last, so that what is popped next is the next in DFS order.
        stack: list[tuple[tuple[bytes, ...], CID, int | None]] = [((), root, None)]
        while stack:
            path, cid, claim = stack.pop()
            self._components += len(path)
            if len(entries) >= self._max_entries or self._components > MAX_COMPONENTS:
                raise RemoteProtocolError(f"a DAG has more than {self._max_entries} entries, or too long paths")
            if len(path) > self._max_depth:
                raise RemoteProtocolError(f"a DAG has more than {self._max_depth} directories in each other")
            entry = self._entry(path, cid, claim)
            entry.cid = cid
            entries.append(entry)
            if entry.kind == "directory":
                children = [((*path, name), link.cid.v1, link.size) for name, link in self._listing(cid)]
                children.reverse()
                stack += children
        sizes = [entry.size for entry in entries if entry.kind == "file"]
        known = [size for size in sizes if size is not None]
        return Plan(root, entries, sum(known) if len(known) == len(sizes) else None, len(sizes))

    def _entry(self, path: tuple[bytes, ...], cid: CID, claim: int | None) -> Entry:
        if cid.codec == RAW:
            return _raw_entry(path, cid, claim)
        node = self._nodes[cid]
        if node.kind == "symlink":
            return Entry(path, "symlink", 0, node.mode, node.mtime, node.data)
        if node.kind == "file":
            entry = Entry(path, "file", node.file_size, node.mode, node.mtime)
            self._unfold(node, 0, entry.segments, 1)
            return entry
        return Entry(path, "directory", 0, node.mode, node.mtime)

    def _unfold(self, node: Node, offset: int, segments: list[Leaf | Inline], level: int) -> None:
        if node.data:
            segments.append(Inline(offset, node.data))
            offset += len(node.data)
        self._spend(len(node.links))
        for link, size in zip(node.links, node.block_sizes, strict=True):
            _check_part(link, size, level)
            if link.cid.codec == DAG_PB:
                child = self._nodes[link.cid.v1]
                _check_place(child, _Place("part", 0, level, size))
                self._unfold(child, offset, segments, level + 1)
            elif (inline := link.cid.inline) is not None:
                segments.append(Inline(offset, inline))
            elif size:
                segments.append(Leaf(link.cid, offset, size))
            offset += size

    def _listing(self, cid: CID) -> Iterator[tuple[bytes, dagpb.Link]]:
        node = self._nodes[cid]
        self._spend(len(node.links))
        if node.kind == "directory":
            for link in node.links:
                yield link.name or b"", link
            return
        for name, link in hamt.slots(node):
            if name:
                yield name, link
            else:
                below = self._nodes[link.cid.v1]
                _check_place(below, _Place("shard", 0, fanout=node.fanout))
                yield from self._listing(link.cid.v1)

    def _spend(self, count: int) -> None:
        self._count += count
        if self._count > self._max_nodes:
            raise RemoteProtocolError(f"a DAG unfolds to more than {self._max_nodes} nodes")


def _raw_entry(path: tuple[bytes, ...], cid: CID, claim: int | None) -> Entry:
    inline = cid.inline
    if inline is not None:
        return Entry(path, "file", len(inline), segments=[Inline(0, inline)] if inline else [])
    if claim is not None and claim > MAX_BLOCK:
        raise RemoteProtocolError("a single block is said to be larger than a block may be")
    return Entry(path, "file", claim, segments=[Leaf(cid, 0, claim)])
