"""One fetch from root to files: sources, structure, room, pieces, rename. Goes on where an earlier run stopped."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from p2pshare.content.destination import Destination
from p2pshare.dht.api import DHT
from p2pshare.errors import NoProvider, NotFound, P2PShareError, RemoteError, TimedOut
from p2pshare.exchange import resume
from p2pshare.exchange.answers import Reader
from p2pshare.exchange.bans import Bans
from p2pshare.exchange.download import Download, recheck
from p2pshare.exchange.finder import Finder
from p2pshare.exchange.layout import Layout, lay_out
from p2pshare.exchange.limits import Limit
from p2pshare.exchange.partial import Partials
from p2pshare.exchange.passing import PassingOn
from p2pshare.exchange.reasons import reason_of
from p2pshare.exchange.room import run_with_room
from p2pshare.exchange.selection import Span, choose, cut
from p2pshare.exchange.source import WrongBlock
from p2pshare.exchange.structure import MalformedContent, Structure
from p2pshare.exchange.swarm import Swarm
from p2pshare.exchange.target import Target
from p2pshare.net.api import Network
from p2pshare.store import Store
from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.dagplan import Entry, Inline, Leaf
from p2pshare_protocols.dagwalk import DagWalk
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_messages import Mark
from p2pshare_protocols.pathwalk import NoSuchEntry, PathWalk

LOOK: Final = 0.25  # seconds between two looks at how the fetch stands
GRACE: Final = 3.0
ANNOUNCE_AFTER: Final = 5.0  # seconds; a shorter fetch is announced once, when it is done
ANNOUNCE_LOOK: Final = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to fetch and where to. `path` picks something inside `cid`; `destination` is absolute and final.

    `timeout`: seconds without any useful source before the fetch fails; None: never. `grace`: seconds to find another
    source after the last one lied or lost its file. `start`: see Scheduler. `span`: these bytes of one file only.
    """

    cid: CID
    destination: str
    path: tuple[bytes, ...] = ()
    addresses: tuple[str, ...] = ()
    only: str | None = None
    span: Span | None = None
    overwrite: bool = False
    sequential: bool = False
    timeout: float | None = None
    grace: float = GRACE
    start: int = 0

    @property
    def part(self) -> str | None:
        """What of it is wanted, as a resumed fetch compares it."""
        return self.only if self.span is None else f"bytes {self.span}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where a fetch tells how it goes. `state` is what `save` got in an earlier run."""

    reason: Callable[[str], None]
    progress: Callable[[int, int, float, int], None]  # bytes, of total, bytes a second, sources
    save: Callable[[bytes], None]
    state: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A finished fetch. `root` is what was picked; `destination` is closed, but knows paths and what was skipped."""

    root: CID
    entries: Sequence[Entry]
    layout: Layout
    destination: Destination
    nodes: Sequence[bytes]  # inner blocks, in the store
    whole: bool  # everything under `root`, no selection
    sources: Counter[str]  # bytes by peer
    banned: Sequence[WrongBlock]  # who sent a wrong block, and which


class Fetcher:
    """Builds what one fetch needs from the node's parts. Used once."""

    def __init__(
        self,
        wish: Wish,
        report: Report,
        *,
        network: Network,
        dht: DHT | None,
        store: Store,
        reader: Reader,
        partials: Partials,
        limit: Limit | None = None,
        bans: Bans | None = None,
        owner: int | None = None,
    ) -> None:
        """`owner`: whose the inner blocks are until there is an item, see Structure."""
        self._wish = wish
        self._report = report
        self._store = store
        self._partials = partials
        self._dht = dht
        self._swarm = Swarm(network, wish.cid.v1.binary, limit, bans=bans, fetching=True)
        self._finder = Finder(self._swarm, network, dht, wish.cid, wish.addresses)
        self._reader = reader
        self._abroad = trio.Event()  # the network is needed
        self._structure = Structure(self._swarm, store, report.reason, self._abroad.set, owner)
        self._block: bytes | None = None  # the root, when it is the whole content
        self._download: Download | None = None
        self._failure: P2PShareError | None = None
        self._total = 0

    async def run(self) -> Fetched:
        """Fetch. Raises LocalError kinds of the disk, VerificationFailed, NoProvider, TimedOut, RemoteError."""
        fetched: Fetched | None = None
        async with trio.open_nursery() as nursery:
            if not self._own():
                self._abroad.set()
            nursery.start_soon(self._look_abroad, nursery)
            try:
                fetched = await self._fetch()
            except P2PShareError as error:
                self._failure = error
            nursery.cancel_scope.cancel()
        if fetched is None:
            raise self._failure or RemoteError("the fetch ended", kind="failed")
        return fetched

    def _own(self) -> bool:
        item = self._store.items.by_cid(self._wish.cid)
        return item is not None and item.state == "ok"

    async def _look_abroad(self, nursery: trio.Nursery) -> None:
        """The sources are looked for once something is missing that is not on this machine."""
        await self._abroad.wait()
        nursery.start_soon(self._swarm.run)
        nursery.start_soon(self._finder.run)
        nursery.start_soon(self._watch, nursery.cancel_scope)
        if self._dht is not None:
            nursery.start_soon(self._announce_part, self._dht)

    # -- in order --

    async def _fetch(self) -> Fetched:
        root = await self._resolve()
        entries, nodes = await self._plan(root)
        chosen = choose(entries, self._wish.only)
        if self._wish.span is not None:
            chosen = cut(chosen, self._wish.span)
        whole = len(chosen) == len(entries) and self._wish.span is None
        state = resume.load(self._report.state, root, self._wish.destination, self._wish.part)
        part = state["part"] if state is not None else None
        destination = await trio.to_thread.run_sync(self._open, chosen, part)
        if destination.renamed and not await _is_whole(destination, chosen):
            destination.close()
            destination = await trio.to_thread.run_sync(self._open, chosen, None)
        with destination:
            layout = lay_out(chosen)
            done = resume.done_of(state, layout) if destination.resumed else Bitmap(layout.pieces)
            self._total = sum(entry.size or 0 for entry in chosen)
            await self._get(root, chosen, layout, destination, done, whole=whole)
            self._report.reason("finishing")
            await trio.to_thread.run_sync(destination.finish)
        sources = self._structure.received
        if self._download is not None:
            sources += self._download.from_source
        for liar in self._swarm.banned:
            del sources[liar]
        return Fetched(
            root=root,
            entries=chosen,
            layout=layout,
            destination=destination,
            nodes=nodes,
            whole=whole,
            sources=sources,
            banned=list(self._swarm.banned.values()),
        )

    async def _resolve(self) -> CID:
        """From the link's CID down its path."""
        try:
            walk = PathWalk(self._wish.cid, self._wish.path)
            while (wanted := walk.wanted) is not None:
                walk.feed(wanted, await self._structure.block(wanted))
        except NoSuchEntry as error:
            raise NotFound(f"the path is not there: {error}") from error
        except RemoteProtocolError as error:
            raise MalformedContent(f"the content cannot be fetched: {error}") from error
        return walk.target

    async def _plan(self, root: CID) -> tuple[list[Entry], list[bytes]]:
        nodes: list[bytes] = []
        try:
            walk = _Noting(root, nodes)
            await self._structure.complete(walk)
            plan = await trio.to_thread.run_sync(walk.plan)  # seconds, for a DAG that unfolds to our bounds
        except RemoteProtocolError as error:
            raise MalformedContent(f"the content cannot be fetched: {error}") from error
        if root.codec == RAW and plan.size is None:
            # Nobody told its size: the block itself does.
            self._block = await self._read_own(root) or await self._structure.block(root)
            size = len(self._block)
            [entry] = plan.entries
            entry.size, entry.segments = size, [Leaf(root, 0, size)] if size else []
        return plan.entries, nodes

    def _open(self, entries: Sequence[Entry], part: str | None) -> Destination:
        return Destination.open(self._wish.destination, entries, overwrite=self._wish.overwrite, part=part)

    async def _get(
        self,
        root: CID,
        entries: Sequence[Entry],
        layout: Layout,
        destination: Destination,
        done: Bitmap,
        *,
        whole: bool,
    ) -> None:
        target = Target(destination, layout)

        def save(safe: Bitmap) -> None:
            self._report.save(resume.save(root, self._wish.destination, self._wish.part, destination.part_name, safe))

        save(done)
        await trio.to_thread.run_sync(_write_inline, destination, entries)
        if destination.resumed:
            self._report.reason("checking what an earlier run has written")
            await recheck(target, layout, done)
        await self._copy_own(layout, target, done)
        if not done.full:
            self._abroad.set()
        download = Download(
            self._swarm,
            layout,
            target,
            done,
            whole=whole and root == self._wish.cid.v1,
            save=save,
            progress=self._tell,
            sequential=self._wish.sequential,
            start=self._wish.start,
        )
        self._download = download
        self._tell()
        with self._partials.registered(PassingOn(root.binary, download, target, whole=whole)):
            await run_with_room(destination, download)
        self._tell()

    async def _read_own(self, cid: CID) -> bytes | None:
        try:
            return await self._reader.read(cid)
        except P2PShareError:
            return None

    async def _copy_own(self, layout: Layout, target: Target, done: Bitmap) -> None:
        """Take from this machine what is on it. Not looked for leaf by leaf when the first one is not here."""
        if self._block is None and not (layout.cids and self._store.blocks.has(layout.cids[0])):
            return
        for piece in range(layout.pieces):
            if piece in done:
                continue
            leaves: list[tuple[int, memoryview]] = []
            for leaf in layout.leaves(piece):
                own = self._block or await self._read_own(CID.from_binary(layout.cids[leaf]))
                if own is None:
                    break
                leaves.append((leaf, memoryview(own)))
            else:
                if await trio.to_thread.run_sync(target.put, leaves) is None:
                    done.add(piece)

    # -- how it stands --

    def _tell(self) -> None:
        download = self._download
        if download is not None:
            inline = self._total - download.layout.bytes
            done = max(0, download.bytes_done + inline)  # a range's first and last blocks are more than it
            self._report.progress(done, self._total, download.rate(), len(self._swarm.sources))

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Say why it waits; decide when waiting has no sense any more."""
        useful = trio.current_time()
        heard = -1
        while True:
            now = trio.current_time()
            download = self._download
            progress = download.heard if download is not None else len(self._structure.received)
            waits = not self._swarm.promising() or (download if download is not None else self._structure).stuck
            if not waits or progress != heard:
                useful, heard = now, progress
            verdict = self._verdict(now - useful) if waits else None
            if verdict is not None:
                self._failure = verdict
                scope.cancel()
                return
            self._say()
            await trio.sleep(LOOK)

    def _verdict(self, waited: float) -> P2PShareError | None:
        swarm, finder, wish = self._swarm, self._finder, self._wish
        marks = {**self._structure.marks, **(self._download.marks if self._download is not None else {})}
        changed = [peer for peer, mark in marks.items() if mark is Mark.CHANGED]
        over = wish.timeout is not None and waited >= wish.timeout
        hopeless = waited >= wish.grace and finder.settled and not finder.searching and not swarm.trying
        if (over or hopeless) and swarm.banned:
            return next(iter(swarm.banned.values()))
        if (over or hopeless) and changed:
            return RemoteError(
                f"the file has changed at its source {changed[0]} since it was shared, and no other source has it",
                kind="changed",
                hint="ask for a new link",
            )
        if not over:
            return None
        if not swarm.ever:
            return NoProvider(
                f"no source of {wish.cid} was found in {wish.timeout:g} s",
                hint="a source must be online; try later, or name one with --peer",
            )
        return TimedOut(
            f"no source had what is missing for {wish.timeout:g} s", hint="run it again to go on from there"
        )

    def _say(self) -> None:
        reason = reason_of(self._swarm, self._finder, self._structure, self._download)
        if reason is not None:
            self._report.reason(reason)

    async def _announce_part(self, dht: DHT) -> None:
        """A fetch that takes long is found by others too, once it has something. What it said expires by itself."""
        await trio.sleep(ANNOUNCE_AFTER)
        while self._download is None or not (self._download.whole and self._download.bytes_done):  # noqa: ASYNC110
            await trio.sleep(ANNOUNCE_LOOK)
        try:
            await dht.provide(self._wish.cid)
        except P2PShareError as error:
            _log.info("that a part of %s is here was not announced: %s", self._wish.cid, error)


class _Noting(DagWalk):
    """A walk that notes the blocks it was given, in order."""

    def __init__(self, root: CID, nodes: list[bytes]) -> None:
        self._noted = nodes
        super().__init__(root)

    def feed(self, cid: CID, block: bytes) -> bool:
        taken = super().feed(cid, block)
        if taken and cid.inline is None:
            self._noted.append(cid.v1.binary)
        return taken


async def _is_whole(destination: Destination, entries: Sequence[Entry]) -> bool:
    """Whether all of the content lies in its files, compared with its CIDs, and nothing more in them."""
    layout = lay_out(entries)
    found = Bitmap(layout.pieces)
    await recheck(Target(destination, layout), layout, found)
    if not found.full:
        return False
    try:
        files = [number for number, entry in enumerate(entries) if entry.kind == "file" and entry.size is not None]
        return all(destination.source_file(number).size == entries[number].size for number in files)
    except P2PShareError:
        return False


def _write_inline(destination: Destination, entries: Sequence[Entry]) -> None:
    for number, entry in enumerate(entries):
        for segment in entry.segments:
            if isinstance(segment, Inline):
                destination.write(number, segment.offset, segment.data)
