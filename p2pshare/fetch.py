"""The fetch verb: link -> sources -> DAG -> pieces -> verify -> NAME.part -> rename -> catalogue -> serve.

It may use the exchange, content, the store, the network and the DHT. It must not know the control socket.
"""

from __future__ import annotations

import contextlib
import logging
import mimetypes
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import trio

from p2pshare.content.destination import check_target, target_of
from p2pshare.content.publisher import Publisher, drop_owner
from p2pshare.content.verify import Damage, Verifier
from p2pshare.dht.api import DHT
from p2pshare.errors import DiskFull, P2PShareError, UsageError
from p2pshare.exchange.answers import Reader
from p2pshare.exchange.bans import Bans
from p2pshare.exchange.fetcher import GRACE, Fetched, Fetcher, Report, Wish
from p2pshare.exchange.limits import RateLimit
from p2pshare.exchange.partial import Partials
from p2pshare.exchange.resume import part_of
from p2pshare.exchange.selection import parse_span
from p2pshare.net.api import Network
from p2pshare.store import Item, ItemDraft, Store
from p2pshare.store.names import NameTuple
from p2pshare_protocols.builder import V1_2025
from p2pshare_protocols.cid import BLAKE3, CID
from p2pshare_protocols.dagplan import Entry, Leaf
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.link import Link, parse_link
from p2pshare_protocols.text import clean, safe_filename

_FILES_A_TURN: Final = 500  # files put into the catalogue before other tasks get their turn
REPAIR_TIMEOUT: Final = 30.0  # seconds without a useful source until a damaged file is left as it is
ROOM_LOOK: Final = 0.5  # seconds between two looks at a full disk
ROOM_MORE: Final = 64 << 10  # bytes that must have become free before it is worth to go on
ROOM_ANYWAY: Final = 60.0  # seconds until it is tried without
_LONGEST: Final = 5000  # characters of a path inside an item; longer ones are not found by a search
_log = logging.getLogger(__name__)


class FetchJob(Protocol):
    """What of a JobHandle fetching needs."""

    id: int
    priority: int

    def progress(self, bytes: int, total: int | None = None, **extra: Any) -> None: ...
    def reason(self, text: str) -> None: ...
    def set(self, *, cid: CID | str | None = None, name: str | None = None) -> None: ...
    def save_blob(self, data: bytes) -> None: ...
    def load_blob(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchParts:
    """What of the node a fetch uses. `announce` is given the finished item, and should return soon (start a task).

    `random_start` gives a random number, see `Scheduler`; `grace` is in seconds, see `Wish`. `download_rate` is in
    bytes a second for all fetches that are given these parts, 0: no limit; `download.set_rate` changes it later.
    """

    network: Network
    store: Store
    reader: Reader
    partials: Partials
    dht: DHT | None = None
    announce: Callable[[Item], Awaitable[None]] | None = None
    random_start: Callable[[], int] = lambda: 0
    grace: float = GRACE
    wall_clock: Callable[[], float] = time.time
    download_rate: float = 0.0
    download: RateLimit = field(init=False)
    bans: Bans = field(init=False, default_factory=Bans)

    def __post_init__(self) -> None:
        object.__setattr__(self, "download", RateLimit(self.download_rate))


def check(params: dict[str, Any]) -> Link:
    """What `fetch.start` can say before a job is made. Raises UsageError, Exists, NotFound, PermissionDenied."""
    try:
        link = parse_link(params["link"])
    except RemoteProtocolError as error:
        raise UsageError(
            f"{clean(params['link'], limit=200)} is not a link: {error}",
            hint="A link looks like p2pshare:CID/NAME; a CID, ipfs://CID and /ipfs/CID are taken too.",
        ) from error
    path = params["path"]
    if not os.path.isabs(path) or "\0" in path:
        raise UsageError(f"{path!r} is not an absolute path")
    if params.get("range") is not None:
        parse_span(params["range"])
        if params.get("only") is not None:
            raise UsageError("--only picks files, --range bytes of one file: only one of them can be given")
    check_target(target_of(path, _name(link)), overwrite=bool(params.get("overwrite")))
    return link


async def fetch(parts: FetchParts, params: dict[str, Any], job: FetchJob) -> dict[str, Any]:
    """Fetch what `params` (those of `fetch.start`) say; the "done" event of EXPERIENCE.

    Raises LocalError kinds of the disk, VerificationFailed, NoProvider, TimedOut, RemoteError.
    """
    begin = trio.current_time()
    saved = job.load_blob()
    link = parse_link(params["link"]) if saved is not None else check(params)
    name = _name(link)
    target = target_of(params["path"], name)
    job.set(cid=link.cid, name=name if link.name or link.path else os.path.basename(target))
    job.reason("looking for sources")
    wish = _wish(link, target, params, parts)
    while (fetched := await _attempt(parts, wish, job)) is None:
        pass
    item = await _add_to_catalogue(parts, fetched, job)
    if item is not None and parts.announce is not None:
        await parts.announce(item)
    job.reason("")
    return {
        "cid": str(fetched.root),
        "name": os.path.basename(fetched.destination.path),
        "path": fetched.destination.path,
        "size": sum(entry.size or 0 for entry in fetched.entries),
        "files": sum(entry.kind == "file" for entry in fetched.entries),
        "elapsed": round(trio.current_time() - begin, 3),
        "sources": sum(count > 0 for count in fetched.sources.values()),
        "skipped": fetched.destination.skipped,
        "banned": [{"source": wrong.peer, "block": wrong.block} for wrong in fetched.banned],
    }


async def verify(parts: FetchParts, items: Sequence[Item], job: FetchJob) -> dict[str, Any]:
    """Read items again, name what is damaged, and fetch anew from the network the files that rotted.

    A file that somebody has written to since is told, and left as it is. The "done" event: {"files", "damaged":
    [{"path", "reason", "repaired"}]}. Raises LocalError.
    """
    total = sum(item.size for item in items)
    before = 0
    told: list[dict[str, Any]] = []
    for item in items:
        job.reason(f"reading {item.name}")

        def report(done: int, size: int, base: int = before) -> None:
            job.progress(base + done, total)

        verifier = Verifier(parts.store, report, wall_clock=parts.wall_clock)
        damaged = await verifier.run(item)
        tried = [await _repair(parts, item, damage, job) for damage in damaged]
        left = damaged
        if any(tried):
            left = await verifier.run(parts.store.items.get(item.id))
        still = {damage.path for damage in left}
        told += [
            {"path": damage.path, "reason": damage.reason, "repaired": damage.path not in still} for damage in damaged
        ]
        before += item.size
    job.reason("")
    return {"files": sum(item.files for item in items), "bytes": total, "damaged": told}


async def _repair(parts: FetchParts, item: Item, damage: Damage, job: FetchJob) -> bool:
    """Fetch a rotten file anew, from whoever has the item; what is right of it is taken from itself."""
    if not damage.rot or item.path is None:
        return False
    inner = damage.path[len(item.path) :].strip("/")
    job.reason(f"repairing {os.path.basename(damage.path)} from the network")
    wish = Wish(
        cid=item.cid.v1,
        path=tuple(os.fsencode(name) for name in inner.split("/")) if inner else (),
        destination=damage.path,
        overwrite=True,
        timeout=REPAIR_TIMEOUT,
        grace=parts.grace,
    )
    nowhere = Report(reason=lambda text: None, progress=lambda *_: None, save=lambda state: None)
    fetcher = Fetcher(
        wish,
        nowhere,
        network=parts.network,
        dht=parts.dht,
        store=parts.store,
        reader=parts.reader,
        partials=parts.partials,
        limit=parts.download,
        bans=parts.bans,
    )
    try:
        await fetcher.run()
    except P2PShareError as error:
        _log.warning("%s was not repaired: %s", damage.path, error)
        return False
    return True


async def _attempt(parts: FetchParts, wish: Wish, job: FetchJob) -> Fetched | None:
    """One run; None when the disk became full on the way and has room again. One that is too small from the start is an
    error."""
    fetcher = Fetcher(
        wish,
        Report(
            reason=job.reason,
            progress=lambda count, total, rate, sources: job.progress(count, total, rate=round(rate), sources=sources),
            save=job.save_blob,
            state=job.load_blob(),
        ),
        network=parts.network,
        dht=parts.dht,
        store=parts.store,
        reader=parts.reader,
        partials=parts.partials,
        limit=parts.download.of(job.priority),
        bans=parts.bans,
        owner=-job.id,
    )
    try:
        return await fetcher.run()
    except DiskFull as error:
        if job.load_blob() is None:
            raise
        disks = _free(os.path.dirname(wish.destination)), _free(str(parts.store.directory))
        job.reason(f"paused, the disk is full; it goes on by itself when there is room: {error.message}")
        await _room(wish.destination, str(parts.store.directory), disks)
        return None


async def _room(destination: str, home: str, before: tuple[int, int]) -> None:
    """Wait until a disk has more room than `before`, or long enough to try anyway. Polled, since nothing tells."""
    parent = os.path.dirname(destination)
    with trio.move_on_after(ROOM_ANYWAY):
        while _free(parent) < before[0] + ROOM_MORE and _free(home) < before[1] + ROOM_MORE:  # noqa: ASYNC110
            await trio.sleep(ROOM_LOOK)


def _free(directory: str) -> int:
    try:
        status = os.statvfs(directory)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


async def discard(store: Store, job_id: int) -> None:
    """Delete what a cancelled fetch has written and recorded. Best effort."""
    drop_owner(store, -job_id)
    saved = store.jobs.load_blob(job_id)
    if saved is not None:
        await trio.to_thread.run_sync(_remove, part_of(saved))


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _name(link: Link) -> str:
    """What the content is called until told otherwise: the path's last component, the link's name, or the CID."""
    name = link.path[-1] if link.path else link.name
    return safe_filename(name) if name else str(link.cid)


def _wish(link: Link, target: str, params: dict[str, Any], parts: FetchParts) -> Wish:
    return Wish(
        cid=link.cid.v1,
        destination=target,
        path=tuple(component.encode("utf-8", "surrogateescape") for component in link.path),
        addresses=(*params.get("peer", ()), *link.addresses),
        only=params.get("only"),
        span=parse_span(params["range"]) if params.get("range") is not None else None,
        overwrite=bool(params.get("overwrite")),
        sequential=bool(params.get("sequential")),
        timeout=params.get("timeout"),
        grace=parts.grace,
        start=parts.random_start(),
    )


async def _add_to_catalogue(parts: FetchParts, fetched: Fetched, job: FetchJob) -> Item | None:
    """Make what was fetched an item with references to where it lies, so that it is served on.

    A selection is no item: its root cannot be served whole.
    """
    store, owner = parts.store, -job.id
    if not fetched.whole:
        drop_owner(store, owner)
        return None
    chunks: dict[int, list[tuple[bytes, int, int]]] = {}
    for number, entry in enumerate(fetched.entries):
        if entry.kind == "file":
            chunks[number] = [
                (segment.cid.v1.binary, segment.offset, segment.size)
                for segment in entry.segments
                if isinstance(segment, Leaf) and segment.size
            ]
    numbers = list(chunks)
    for at in range(0, len(numbers), _FILES_A_TURN):
        await trio.lowlevel.checkpoint()
        files = [
            (fetched.destination.source_file(number), chunks[number], _binary(fetched.entries[number]))
            for number in numbers[at : at + _FILES_A_TURN]
        ]
        store.references.add_files(owner, files)
    store.blocks.own(owner, fetched.nodes)
    empty = {leaf.cid.v1.binary for leaf in _leaves(fetched) if not leaf.size}
    store.blocks.put_many(owner, [(cid, b"") for cid in empty])
    publisher = Publisher(store, V1_2025, owner=owner, progress=lambda done, total: None, wall_clock=parts.wall_clock)
    return await publisher.make_item(_draft(fetched), _names(fetched))


def _binary(entry: Entry) -> bytes | None:
    return None if entry.cid is None else entry.cid.binary


def _leaves(fetched: Fetched) -> list[Leaf]:
    return [segment for entry in fetched.entries for segment in entry.segments if isinstance(segment, Leaf)]


def _draft(fetched: Fetched) -> ItemDraft:
    path = fetched.destination.path
    name = os.path.basename(path)
    directory = fetched.entries[0].kind == "directory"
    return ItemDraft(
        cid=fetched.root,
        name=name,
        size=sum(entry.size or 0 for entry in fetched.entries),
        files=sum(entry.kind == "file" for entry in fetched.entries),
        kind="directory" if directory else "file",
        path=path,
        mime="" if directory else mimetypes.guess_type(name)[0] or "",
        hash="blake3" if fetched.root.hash_code == BLAKE3 else "sha256",
        origin="fetched",
    )


def _names(fetched: Fetched) -> Iterator[NameTuple]:
    """(path, name, CID, size, kind) of what is inside, in the order of the plan."""
    plain: dict[tuple[bytes, ...], bool] = {(): True}  # directories whose names a path can have
    for number, entry in enumerate(fetched.entries):
        path = entry.path
        if not path or entry.cid is None:
            continue
        above = plain.get(path[:-1], False) and _is_plain(path[-1])
        if entry.kind == "directory":
            plain[path] = above
        if above:
            text = b"/".join(path).decode("utf-8", "surrogateescape")
            last = text.rpartition("/")[2]
        else:  # as on our disk
            names = fetched.destination.safe_path(number)
            text, last = "/".join(names), names[-1]
        if len(text) <= _LONGEST:
            yield text, last, entry.cid.v1.binary, entry.size or 0, entry.kind


def _is_plain(name: bytes) -> bool:
    return bool(name) and b"/" not in name and b"\0" not in name and name not in {b".", b".."}
