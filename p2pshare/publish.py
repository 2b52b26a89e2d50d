"""The share verb: path -> walk -> (copy) -> chunk and hash -> DAG -> catalogue -> announce -> receipt.

It may use content, the store, jobs and the DHT's receipt. How announcing is done is handed to it as a function.
"""

from __future__ import annotations

import logging
import mimetypes
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Protocol, TypeVar

import trio

from p2pshare.content import copies, dag
from p2pshare.content.metadata import MetadataReader
from p2pshare.content.publisher import Publisher, drop_owner
from p2pshare.content.walk import FoundDirectory, FoundFile, Scan, Scanner
from p2pshare.dht.api import Receipt
from p2pshare.errors import LocalError, P2PShareError, PermissionDenied, UsageError
from p2pshare.store import Item, ItemDraft, Job, Store
from p2pshare_protocols import terms
from p2pshare_protocols.builder import V1_2025, with_hash
from p2pshare_protocols.cid import CID, RAW, UnsupportedHash
from p2pshare_protocols.link import format_link

MAX_PATHS: Final = 1000  # in one call
MAX_WORDS: Final = terms.MAX_TERMS_PER_ITEM
_KEYS: Final = ("identity.key", "publisher.key")  # beside the catalogue's directory
_log = logging.getLogger(__name__)

T = TypeVar("T")
Announce = Callable[[CID], Awaitable[Receipt]]
Post = Callable[[Item], Awaitable[Receipt]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareOptions:
    """What `share.start` takes. Paths are absolute. `name` is for one path only."""

    paths: tuple[str, ...]
    copy: bool = False
    name: str = ""
    tags: tuple[str, ...] = ()
    title: str = ""
    description: str = ""
    mime: str = ""
    hidden: bool = False
    follow_symlinks: bool = False
    exclude: tuple[str, ...] = ()
    announce: bool = True
    index: bool = True
    hash: str = "sha256"

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> ShareOptions:
        """From a job's params; None stands for the default, and unknown keys are passed over."""
        known = {field.name for field in fields(cls)}
        given = {key: value for key, value in params.items() if key in known and value is not None}
        options: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        return cls(**options)

    def to_params(self) -> dict[str, Any]:
        """Plain data, for a job."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class ShareJob(Protocol):
    """What of a JobHandle sharing needs."""

    id: int

    def progress(self, bytes: int, total: int | None = None, **extra: Any) -> None: ...
    def reason(self, text: str) -> None: ...
    def set(self, *, cid: CID | str | None = None, name: str | None = None) -> None: ...


async def share(
    *,
    store: Store,
    options: ShareOptions,
    job: ShareJob,
    announce: Announce | None,
    post: Post | None = None,
    metadata: MetadataReader | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Share every path of `options`; the "done" event of EXPERIENCE, with "words", "skipped" and "items" (one a path).

    `announce` tells the DHT, `post` places the item's words; without them, or when the options say no, nothing leaves
    this machine. Their failing does not undo the share: the receipts then say 0. `metadata` gives a single file the
    title that stands in it, when the options have none and it is to be found by words. Raises LocalError kinds,
    QuotaExceeded when a copy has no room; "partial" when some of several paths were shared and some not.
    """
    _check(options)
    verb = _Share(store, options, job, announce=announce, post=post, metadata=metadata, wall_clock=wall_clock)
    done: list[dict[str, Any]] = []
    failed: list[tuple[str, P2PShareError]] = []
    for number, path in enumerate(options.paths):
        try:
            done.append(await verb.one(path, number))
        except P2PShareError as error:
            if len(options.paths) == 1:
                raise
            failed.append((path, error))
    if not done:
        raise failed[0][1]
    if failed:
        path, first = failed[0]
        raise LocalError(
            f"{len(done)} of {len(options.paths)} paths were shared; {path}: {first.message}",
            kind="partial",
            hint=first.hint or "share the rest again once that is solved; what is shared already costs nothing",
        )
    return {**done[0], "items": done}


def discard_copy(store: Store, item: Item) -> None:
    """Delete the copy that `--copy` kept of an item, if it has one. Call it when the item is removed."""
    if copies.is_copy(str(store.directory), item.path) and item.path is not None:
        copies.remove(item.path)


async def discard(store: Store, job: Job) -> None:
    """Tidy up after a share job that was cancelled: what it had recorded and copied. For JobManager.register."""
    drop_owner(store, -job.id)
    options = ShareOptions.from_params(job.params)
    directories = [
        copies.directory_of(str(store.directory), _copy_number(job.id, n)) for n in range(len(options.paths))
    ]
    made = {item.path for item in store.items.list() if copies.is_copy(str(store.directory), item.path)}
    kept = {os.path.dirname(path) for path in made if path is not None}
    for directory in directories:
        if directory not in kept:
            await trio.to_thread.run_sync(copies.remove_directory, directory)


def _copy_number(job_id: int, path_number: int) -> int:
    return job_id * MAX_PATHS + path_number


class _Share:
    def __init__(
        self,
        store: Store,
        options: ShareOptions,
        job: ShareJob,
        *,
        announce: Announce | None,
        post: Post | None,
        metadata: MetadataReader | None,
        wall_clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._options = options
        self._job = job
        self._announce = announce if options.announce else None
        self._post = post if options.announce and options.index else None
        self._metadata = metadata if options.index and not options.title else None
        self._now = wall_clock
        self._home = str(store.directory)
        self._limiter = trio.CapacityLimiter(2)

    async def one(self, path: str, number: int) -> dict[str, Any]:
        """Share one path."""
        scan = await self._scan(path)
        name = self._options.name or scan.root.name.decode("utf-8")
        self._job.set(name=name)
        copy = copies.place_of(self._home, _copy_number(self._job.id, number), name) if self._options.copy else None
        publisher = Publisher(
            self._store,
            with_hash(V1_2025, self._options.hash),
            owner=-self._job.id,
            progress=self._job.progress,
            limiter=self._limiter,
            wall_clock=self._now,
        )
        try:
            with self._store.quota.reserved(scan.size) if copy is not None else nullcontext():
                if copy is not None:
                    self._job.reason("copying")
                    await trio.to_thread.run_sync(_make_copy, scan, copy, limiter=self._limiter)
                self._job.reason("hashing")
                root, names = await publisher.build(scan)
                draft = await self._with_metadata(self._draft(scan, root.cid, root.size, name), scan)
                item = await publisher.make_item(draft, names)
        except BaseException as error:
            if not isinstance(error, trio.Cancelled) or getattr(self._job, "intent", "") == "cancel":
                publisher.discard()
                if copy is not None:
                    copies.remove(copy)
            raise
        if copy is not None and item.path != scan.root.path:  # the same content was kept before
            copies.remove(copy)
        self._job.set(cid=item.cid)
        self._store.events.append("shares", {"event": "shared", "cid": str(item.cid), "name": item.name})
        return await self._receipt(item, scan)

    async def _scan(self, path: str) -> Scan:
        self._job.reason("looking at the files")
        return await trio.to_thread.run_sync(_scan, path, self._options, self._home, limiter=self._limiter)

    def _draft(self, scan: Scan, cid: CID, size: int, name: str) -> ItemDraft:
        directory = isinstance(scan.root, FoundDirectory)
        mime = self._options.mime or ("" if directory else mimetypes.guess_type(name)[0] or "")
        return ItemDraft(
            cid=cid,
            name=name,
            size=size,
            files=len(scan.files) if directory else 1,
            kind="directory" if directory else "file",
            path=scan.root.path,
            type=dag.main_type(scan, name, mime),
            mime=mime,
            tags=self._options.tags,
            title=self._options.title,
            description=self._options.description,
            hash=self._options.hash,
            announce=self._options.announce,
            index=self._options.index,
        )

    async def _with_metadata(self, draft: ItemDraft, scan: Scan) -> ItemDraft:
        if self._metadata is None or not isinstance(scan.root, FoundFile):
            return draft
        found = await self._metadata.read(scan.root.path)
        kind = found.type if draft.type == "other" and found.type else draft.type
        return replace(draft, title=found.title, type=kind)

    async def _receipt(self, item: Item, scan: Scan) -> dict[str, Any]:
        findable = await self._attempt("telling the network who has it", self._announce, item.cid)
        if findable.asked:
            self._store.items.set_announced(item.id, self._now(), findable.stored, findable.asked)
        postings = await self._attempt("placing its words", self._post, item)
        self._job.reason("")
        return {
            "cid": str(item.cid),
            "link": format_link(item.cid, item.name),
            "name": item.name,
            "size": item.size,
            "files": item.files,
            "kind": item.kind,
            "path": item.path,
            "findable": {"stored": findable.stored, "asked": findable.asked},
            "postings": {"stored": postings.stored, "asked": postings.asked},
            "words": words_of(item),
            "skipped": scan.skipped,
        }

    async def _attempt(self, reason: str, act: Callable[[T], Awaitable[Receipt]] | None, what: T) -> Receipt:
        """Announce; a network that is not there does not undo a share."""
        if act is None:
            return Receipt(0, 0)
        self._job.reason(reason)
        try:
            return await act(what)
        except P2PShareError as error:
            _log.warning("%s: %s", reason, error)
            return Receipt(0, 0)


def words_of(item: Item) -> list[str]:
    """The words under which an item is found, as `share` shows them: of its name, tags and title, and its type."""
    text = " ".join((item.name, *item.tags, item.title, "" if item.type == "other" else item.type))
    return terms.cut(text, MAX_WORDS)


def _make_copy(scan: Scan, target: str) -> None:
    copies.copy(scan, target)
    copies.retarget(scan, target)


def _check(options: ShareOptions) -> None:
    if not options.paths:
        raise UsageError("there is nothing to share: no path was given")
    if len(options.paths) > MAX_PATHS:
        raise UsageError(f"at most {MAX_PATHS} paths can be shared in one call", hint="share the directory above them")
    for path in options.paths:
        if not os.path.isabs(path) or "\0" in path:
            raise UsageError(f"{path!r} is not an absolute path")
    if options.name and len(options.paths) > 1:
        raise UsageError("one name cannot be given to several paths", hint="share them one by one, each with --name")
    if "/" in options.name or options.name in {".", ".."}:
        raise UsageError(f"{options.name!r} is not a name: it must be one path component")
    if options.hash not in {"sha256", "blake3"}:
        raise UsageError(f"{options.hash!r} is not a hash function that is offered: sha256 or blake3")
    try:
        CID.of(RAW, b"", options.hash)
    except UnsupportedHash as error:
        raise UsageError(str(error)) from error
    if len(set(options.paths)) != len(options.paths):
        raise UsageError("a path stands twice among what is to be shared")


def _scan(path: str, options: ShareOptions, home: str) -> Scan:
    """In a worker thread. Our own data, with the key in it, is never shared: neither asked for, nor met on the way."""
    path = os.path.normpath(path)
    real, real_home = os.path.realpath(path), os.path.realpath(home)
    above, own = os.path.dirname(real_home), _own(real_home)
    inside = os.path.dirname(real) == real_home and os.path.isfile(real)
    if inside or _inode(real) in own or (real == above and len(own) > 1):
        raise PermissionDenied(f"{path} is p2pshare's own data, with its keys or beside them, and is not shared")
    try:
        os.path.basename(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{os.fsencode(path)!r} has a name that is not UTF-8", hint="rename it first") from None
    scanner = Scanner(
        hidden=options.hidden,
        follow_symlinks=options.follow_symlinks,
        exclude=options.exclude,
        never=own,
    )
    return scanner.scan(path)


def _own(home: str) -> set[tuple[int, int]]:
    """(device, inode) of the catalogue's directory and of the keys, by whatever name something leads there."""
    keys = [os.path.join(os.path.dirname(home), name) for name in _KEYS]
    return {found for found in map(_inode, (home, *keys)) if found is not None}


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
