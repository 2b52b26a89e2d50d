"""Getting the pieces: asks sources what the scheduler says, verifies and writes what comes, records what is safe."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

import trio

from p2pshare.errors import LocalError
from p2pshare.exchange.layout import Layout
from p2pshare.exchange.source import Arrival, Source, WrongBlock
from p2pshare.exchange.swarm import Swarm
from p2pshare.exchange.target import Target
from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.exchange_messages import Holding, Mark
from p2pshare_protocols.lanes import Lanes
from p2pshare_protocols.scheduler import Scheduler

TICK: Final = 0.25  # seconds between two looks at stalls, progress and idle sources
INLINE: Final = 32 << 10  # bytes hashed and written in the trio thread: less than a hop to a worker costs
SAVE_BYTES: Final = 64 << 20  # verified bytes that may be lost to a power cut
SAVE_SECONDS: Final = 2.0
RATE_SPAN: Final = 3.0  # seconds over which the rate is told
STUCK_AGAIN: Final = 30.0  # seconds until sources are asked once more for what they said they lack
GIVE_UP: Final = 30.0  # seconds of silence until a source is disconnected, to be tried anew later
THREADS: Final = 4
TOGETHER: Final = 2  # frames of one source that are hashed and written in one go, when they wait anyway
_log = logging.getLogger(__name__)


class Download:
    """One fetch's pieces. `done` is which are verified and written.

    `whole` says that the layout's leaves are all leaves of the swarm's root, so that bitmaps of partial holders fit.
    """

    def __init__(
        self,
        swarm: Swarm,
        layout: Layout,
        target: Target,
        done: Bitmap,
        *,
        whole: bool,
        save: Callable[[Bitmap], None],
        progress: Callable[[], None],
        sequential: bool = False,
        start: int = 0,
    ) -> None:
        self.layout = layout
        self.done = done
        self.bytes_done = sum(layout.piece_sizes[piece] for piece in done)
        self.marks: dict[str, Mark] = {}  # source -> the last reason why it did not send a block
        self.from_source: Counter[str] = Counter()  # verified bytes by source
        self._swarm = swarm
        self._target = target
        self.whole = whole
        self._save = save
        self._progress = progress
        self._scheduler = Scheduler(layout.piece_sizes, done, sequential=sequential, start=start)
        self._inboxes: dict[Source, trio.MemorySendChannel[Arrival]] = {}
        self._lacking: set[tuple[str, int]] = set()
        self._got: dict[int, set[int]] = {}  # piece that is not whole yet -> its leaves that are verified and written
        self._unsaved = 0
        self._full = trio.Event()
        self._finished = trio.Event()
        self._rates: deque[tuple[float, int]] = deque(maxlen=64)
        self._threads = trio.CapacityLimiter(THREADS)
        self._nursery: trio.Nursery | None = None
        self._failure: LocalError | None = None
        self._again = 0.0
        self._lanes: dict[str, Lanes] = {}  # by peer
        self._gone: Counter[str] = Counter()  # bytes by peer, of lanes that ended
        self.heard = 0  # bytes that came, verified or not

    async def run(self) -> None:
        """Until every piece is verified, written and durable. Raises LocalError when the disk fails."""
        if not self._scheduler.finished:
            try:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self._swarm.attach(self._join, self._leave, self._arrived, self._heard)
                    for source in list(self._swarm.lanes.values()):
                        self._join(source)
                    nursery.start_soon(self._tick)
                    nursery.start_soon(self._keep_saving)
                    await self._finished.wait()
                    nursery.cancel_scope.cancel()
            finally:
                self._swarm.detach()
        if self._failure is not None:
            raise self._failure
        await self._checkpoint()

    @property
    def left(self) -> int:
        return self._scheduler.left

    @property
    def stuck(self) -> bool:
        """Pieces are left, and no source that is here has any of them."""
        return bool(self._scheduler.left) and not any(map(self._scheduler.wanted_from, self._scheduler.sources))

    @property
    def silent(self) -> bool:
        """Sources are here, and all of them have gone silent."""
        states = self._scheduler.sources.values()
        return bool(states) and all(state.parked for state in states)

    @property
    def queue(self) -> int:
        """Our best place in a queue for an upload slot, when all sources that are here let us wait; else 0."""
        places = [source.queue for source in self._inboxes]
        return min(places, default=0)

    def active(self) -> int:
        """Sources that owe us something."""
        return sum(bool(state.out) for state in self._scheduler.sources.values())

    def rate(self) -> float:
        """Verified bytes a second, lately."""
        now = trio.current_time()
        while len(self._rates) > 1 and now - self._rates[0][0] > RATE_SPAN:
            self._rates.popleft()
        if not self._rates or now <= self._rates[0][0]:
            return 0.0
        since, before = self._rates[0]
        return (self.bytes_done - before) / (now - since)

    # -- sources --

    def _join(self, source: Source) -> None:
        pieces = None
        leaves = source.leaves if source.holding is Holding.PART and self.whole else None
        if leaves is not None and leaves.size == len(self.layout.cids):
            pieces = self.layout.pieces_of(leaves)
        self._scheduler.join(source.name, trio.current_time(), pieces, rtt=source.rtt)
        if source not in self._inboxes and self._nursery is not None:
            send, receive = trio.open_memory_channel[Arrival](TOGETHER)
            self._inboxes[source] = send
            self._nursery.start_soon(self._take_all, source, receive)
        self._pump(source)

    def _leave(self, source: Source) -> None:
        state = self._scheduler.sources.get(source.name)
        self._gone[source.peer] += state.received if state is not None else 0
        self._scheduler.leave(source.name)
        inbox = self._inboxes.pop(source, None)
        if inbox is not None:
            inbox.close()
        self._pump_all()

    def _pump(self, source: Source) -> None:
        for piece in self._scheduler.ask(source.name, trio.current_time()):
            got = self._got.get(piece, ())
            leaves = [leaf for leaf in self.layout.leaves(piece) if leaf not in got]
            self._lacking.discard((source.name, piece))
            cids, sizes = self.layout.cids, self.layout.sizes
            source.ask_piece(piece, leaves, [cids[leaf] for leaf in leaves], [sizes[leaf] for leaf in leaves])

    def _pump_all(self) -> None:
        for source in list(self._swarm.lanes.values()):
            if source in self._inboxes:
                self._pump(source)

    def _heard(self, source: Source, count: int) -> None:
        self.heard += count
        self._scheduler.heard(source.name, count, trio.current_time())

    # -- blocks --

    async def _arrived(self, source: Source, arrival: Arrival) -> None:
        inbox = self._inboxes.get(source)
        if inbox is not None:
            try:
                await inbox.send(arrival)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return

    async def _take_all(self, source: Source, inbox: trio.MemoryReceiveChannel[Arrival]) -> None:
        """What one source sends, in order; the next frames are received while these are hashed and written."""
        async with inbox:
            async for arrival in inbox:
                arrivals = [arrival]
                with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
                    while len(arrivals) < TOGETHER:
                        arrivals.append(inbox.receive_nowait())
                try:
                    await self._take(source, arrivals)
                except WrongBlock as error:
                    self._scheduler.ban(source.name)
                    self._swarm.ban(error)
                    return
                except LocalError as error:
                    self.fail(error)
                    return
                self._pump(source)

    def fail(self, error: LocalError) -> None:
        """The disk does not take it: that ends the fetch, not the sources."""
        self._failure = self._failure or error
        self._finished.set()

    async def _take(self, source: Source, arrivals: list[Arrival]) -> None:
        good = [self._good(source, arrival) for arrival in arrivals]
        if any(good):
            await self._put(source, [leaf for leaves in good for leaf in leaves])
        for arrival, leaves in zip(arrivals, good, strict=True):
            source.used(arrival)
            if not arrival.ended or (source.name, arrival.piece) in self._lacking:
                self._put_down(arrival.piece, (leaf for leaf, _ in leaves))
            if not arrival.ended:
                continue
            if (source.name, arrival.piece) in self._lacking:
                self._scheduler.lacking(source.name, arrival.piece)
                self._pump_all()
            else:
                self._delivered(source, arrival.piece)

    def _put_down(self, piece: int, leaves: Iterable[int]) -> None:
        """What is verified and written of a piece that does not come whole is not asked for again."""
        if not self._scheduler.is_done(piece):
            self._got.setdefault(piece, set()).update(leaves)

    def _good(self, source: Source, arrival: Arrival) -> list[tuple[int, memoryview]]:
        """The leaves that came and are wanted still; it is noted which did not come."""
        good: list[tuple[int, memoryview]] = []
        for leaf, block in zip(arrival.leaves, arrival.blocks, strict=True):
            if isinstance(block, Mark):
                self.marks[source.peer] = block
                self._lacking.add((source.name, arrival.piece))
            else:
                good.append((leaf, block))
        if arrival.refused:
            self.marks[source.peer] = Mark.BUSY
            self._lacking.add((source.name, arrival.piece))
        return [] if self._scheduler.is_done(arrival.piece) else good

    async def _put(self, source: Source, leaves: list[tuple[int, memoryview]]) -> None:
        size = sum(len(data) for _, data in leaves)
        if size <= INLINE:
            bad = self._target.put(leaves)
        else:
            bad = await trio.to_thread.run_sync(self._target.put, leaves, limiter=self._threads)
        if bad is not None:
            raise WrongBlock(source.peer, self.layout.cids[bad])

    def _delivered(self, source: Source, piece: int) -> None:
        cancelled = self._scheduler.delivered(source.name, piece, trio.current_time())
        self._swarm.proved(source.peer)
        self._got.pop(piece, None)
        if self.done.add(piece):
            size = self.layout.piece_sizes[piece]
            self.bytes_done += size
            self.from_source[source.peer] += size
            self._unsaved += size
            if self._unsaved >= SAVE_BYTES:
                self._full.set()
        for other in cancelled:
            loser = self._swarm.lanes.get(other.source)
            if loser is not None:
                loser.cancel_piece(piece)
                self._pump(loser)
        if self._scheduler.finished:
            self._finished.set()

    # -- the clock --

    async def _tick(self) -> None:
        self._again = trio.current_time() + STUCK_AGAIN
        while True:
            now = trio.current_time()
            self._rates.append((now, self.bytes_done))
            self._look_after_silent(now)
            await self._look_after_lanes(now)
            if self.stuck and now >= self._again:
                self._again = now + STUCK_AGAIN
                for source in list(self._inboxes):
                    self._join(source)  # what one lacked it may have by now
            self._pump_all()
            self._progress()
            await trio.sleep(TICK)

    def _look_after_silent(self, now: float) -> None:
        """Who owes us something and says nothing: a fresh connection is tried, others get its pieces, and in the end it
        is put aside."""
        scheduler, swarm = self._scheduler, self._swarm
        for name in scheduler.silent(now):
            source = swarm.lanes.get(name)
            if source is not None and source.busy:
                scheduler.heard(name, 0, now)  # it waits for our disk
            elif source is not None and not source.queue:
                swarm.refresh(source.peer)
        for name in scheduler.stalled(now):
            source = swarm.lanes.get(name)
            if source is not None:
                _log.info("source %s stalls; its pieces go to others", name)
                scheduler.park(name)
                if not source.queue:
                    swarm.doubt(source.peer)
        for name, state in list(scheduler.sources.items()):
            source = swarm.lanes.get(name)
            if state.parked and now - state.progress > GIVE_UP and source is not None and not source.queue:
                scheduler.leave(name)
                swarm.set_aside(source.peer)

    async def _look_after_lanes(self, now: float) -> None:
        """One more connection to whom one is not enough, one less where it brings nothing."""
        scheduler = self._scheduler
        for peer in list(self._swarm.sources):
            states = [
                scheduler.sources[lane.name] for lane in self._swarm.lanes_of(peer) if lane.name in scheduler.sources
            ]
            if not states:
                continue
            lanes = self._lanes.setdefault(peer, Lanes())
            received = sum(state.received for state in states) + self._gone[peer]
            full = all(state.out and not state.parked for state in states) and not scheduler.ending
            wanted = lanes.look(received, min(state.rtt for state in states), now, full=full)
            going = [state.name for state in states if not state.retired]
            if len(going) < wanted:
                self._swarm.widen(peer)
            elif len(going) > wanted:
                scheduler.retire(going[-1])
        for name in scheduler.finished_with():
            await self._swarm.close_lane(name)

    async def _keep_saving(self) -> None:
        while True:
            with trio.move_on_after(SAVE_SECONDS):
                await self._full.wait()
            if self._unsaved:
                try:
                    await self._checkpoint()
                except LocalError as error:
                    self.fail(error)

    async def _checkpoint(self) -> None:
        """Data first, then the record that claims it."""
        self._full = trio.Event()
        self._unsaved = 0
        safe = Bitmap.from_bytes(self.done.to_bytes(), self.done.size)
        await trio.to_thread.run_sync(self._target.sync, limiter=self._threads)
        self._save(safe)


async def recheck(target: Target, layout: Layout, done: Bitmap) -> int:
    """After a crash: find what was written but not recorded, by comparing it with its CIDs. How many pieces."""
    found = 0
    for piece in range(layout.pieces):
        if piece in done:
            continue
        try:
            held = await trio.to_thread.run_sync(target.holds, piece)
        except LocalError:
            held = False
        if held:
            done.add(piece)
            found += 1
    return found
