"""Finding one entry of a stranger's directory by its path, fetching no more blocks than the way there needs."""

from __future__ import annotations

from typing import Final

from p2pshare_protocols import dagpb, hamt, unixfs
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from p2pshare_protocols.errors import RemoteProtocolError

MAX_PATH: Final = 64


class NoSuchEntry(RemoteProtocolError):
    """The directory has no entry of that name, or the path goes on below something that is no directory."""


class PathWalk:
    """Sans-IO: while `wanted` is a CID, `feed` that block (its hash checked); then `target` is the entry's CID.

    `path` are raw names. `size` is the target's claimed Tsize (None for the root itself).
    """

    def __init__(self, root: CID, path: tuple[bytes, ...]) -> None:
        if len(path) > MAX_PATH:
            raise RemoteProtocolError(f"a path has more than {MAX_PATH} components")
        self.target = root.v1
        self.size: int | None = None
        self._rest = list(path)
        self._slots: list[int] = []
        self._check()

    @property
    def wanted(self) -> CID | None:
        return self.target if self._rest else None

    def feed(self, cid: CID, block: bytes) -> None:
        """Take the wanted block one step on. Raises NoSuchEntry, or RemoteProtocolError for a malformed block."""
        if cid.v1 != self.wanted:
            return
        node = unixfs.decode_node(self.target, block)
        if self._slots and node.kind != "shard":
            raise RemoteProtocolError("a directory shard is not what the node above it says")
        if node.kind == "directory":
            link = next((link for link in node.links if link.name == self._rest[0]), None)
            self._step(link, entry=True)
        elif node.kind == "shard":
            self._step_in_shard(node)
        else:
            raise NoSuchEntry("the path goes on below something that is not a directory")

    def _step_in_shard(self, node: unixfs.Node) -> None:
        if len(self._slots) >= hamt.max_depth(node.fanout):
            raise RemoteProtocolError("a sharded directory is deeper than its hash is long")
        name = self._rest[0]
        slot = hamt.slot_of(name, len(self._slots), node.fanout)
        prefix = b"%0*X" % (len(f"{node.fanout - 1:X}"), slot)
        for link in node.links:
            if link.name == prefix + name:
                return self._step(link, entry=True)
            if link.name == prefix:
                self._slots.append(slot)
                return self._step(link, entry=False)
        return self._step(None, entry=True)

    def _step(self, link: dagpb.Link | None, *, entry: bool) -> None:
        if link is None:
            raise NoSuchEntry("the directory has no entry of that name")
        self.target = link.cid.v1
        self.size = link.size
        if entry:
            del self._rest[0]
            self._slots.clear()
        self._check()

    def _check(self) -> None:
        if self.target.codec not in {RAW, DAG_PB}:
            raise RemoteProtocolError("the path leads to something that is no part of UnixFS")
        if self._rest and self.target.codec == RAW:
            raise NoSuchEntry("the path goes on below something that is not a directory")
