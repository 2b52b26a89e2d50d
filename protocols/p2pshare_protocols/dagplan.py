"""What a walked DAG comes to: entries with their paths, and for each file the ordered pieces that make it up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from p2pshare_protocols.cid import CID
from p2pshare_protocols.unixfs import Mtime

EntryKind = Literal["file", "directory", "symlink"]


class Leaf(NamedTuple):
    """A raw block at `offset` of its file. `size` is what the DAG claims (to be checked against the block's real
    length when it comes), or None where nothing claims it."""

    cid: CID
    offset: int
    size: int | None


class Inline(NamedTuple):
    """File bytes that stood in an inner node or in an identity CID."""

    offset: int
    data: bytes


@dataclass(slots=True)
class Entry:
    """A file, directory or symlink. `path` is () for the root; its components are a stranger's raw names.

    `size` is a file's bytes (None: unknown until its only leaf is there), 0 for the rest; `target` a symlink's.
    """

    path: tuple[bytes, ...]
    kind: EntryKind
    size: int | None = 0
    mode: int | None = None
    mtime: Mtime | None = None
    target: bytes = b""
    segments: list[Leaf | Inline] = field(default_factory=list)
    cid: CID | None = None


@dataclass(slots=True)
class Plan:
    """All entries in DFS order, parents before what they hold. `size` sums the files (None when one is unknown)."""

    root: CID
    entries: list[Entry]
    size: int | None
    files: int
