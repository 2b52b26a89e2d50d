"""The rows of the catalogue as the rest of the daemon sees them. Sizes and offsets are bytes, times unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from p2pshare_protocols.cid import CID

ItemKind = Literal["file", "directory"]
ItemState = Literal["ok", "changed", "missing"]
FileState = Literal["ok", "changed", "missing", "rotten"]  # rotten: other bytes, though nobody wrote, by its stamps
Origin = Literal["shared", "fetched"]
JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]

FINAL_STATES: tuple[JobState, ...] = ("done", "failed", "cancelled")
JOB_STATES: tuple[JobState, ...] = ("queued", "running", "paused", *FINAL_STATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDraft:
    """What a publisher or a fetch knows about an item before it is in the catalogue. `type` "" is told from `name`."""

    cid: CID
    name: str
    size: int
    files: int = 1
    kind: ItemKind = "file"
    path: str | None = None
    type: str = ""
    mime: str = ""
    tags: tuple[str, ...] = ()
    title: str = ""
    description: str = ""
    hash: str = "sha256"
    state: ItemState = "ok"
    origin: Origin = "shared"
    announce: bool = True
    index: bool = True
    created: float | None = None  # None: now


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that a person shared or fetched. `stored` of `asked` nodes hold its provider record."""

    id: int
    cid: CID
    name: str
    path: str | None
    size: int
    files: int
    kind: ItemKind
    type: str
    mime: str
    tags: tuple[str, ...]
    title: str
    description: str
    hash: str
    state: ItemState
    origin: Origin
    announce: bool
    index: bool
    created: float
    last_announced: float | None
    stored: int
    asked: int
    bytes_sent: int


class NameRow(NamedTuple):
    """A file or directory inside an item. `path_in_item` has no leading slash and ends in `name`.

    `type` is one of the eight; "" lets the name tell.
    """

    path_in_item: str
    name: str
    cid: CID
    size: int
    kind: str
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """A hit of the local search, with what is known of its item. `path_in_item` is "" for the item itself."""

    item_id: int
    cid: CID
    root_cid: CID
    path_in_item: str
    name: str
    item_name: str
    size: int
    type: str
    kind: str
    created: float
    tags: tuple[str, ...]
    title: str
    mime: str
    state: ItemState
    index: bool
    origin: Origin


class FoundRows(NamedTuple):
    """`rows`, best first; `complete` when nothing that matches was left out."""

    rows: list[FoundRow]
    complete: bool


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A user's own file as it was when its bytes were hashed. `id` is 0 before it is in the catalogue."""

    path: str
    size: int
    inode: int
    mtime_ns: int
    id: int = 0
    state: FileState = "ok"


class Located(NamedTuple):
    """Where the bytes of a chunk lie, and what must still be true of the file for them to be served."""

    path: str
    offset: int
    length: int
    size: int
    inode: int
    mtime_ns: int
    file_id: int
    item_id: int
    verified: float | None
    transform: str = "identity"
    state: FileState = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Durable work. `reason` says in words what it waits for; `result` and `error` are set in a final state only."""

    id: int
    kind: str
    params: dict[str, Any]
    state: JobState
    reason: str
    bytes: int
    total: int | None
    cid: str | None
    name: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created: float
    updated: float
    priority: int

    @property
    def finished(self) -> bool:
        return self.state in FINAL_STATES


class Event(NamedTuple):
    """Something that happened. `seq` only grows, also over restarts; numbers may be left out."""

    seq: int
    time: float
    topic: str
    body: Mapping[str, Any]
    durable: bool = True


@dataclass(frozen=True, slots=True)
class BlockStats:
    blocks: int
    bytes: int
    references: int
