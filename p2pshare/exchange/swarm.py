"""The sources of one fetch: who may be one, who is connected, who is put aside for a while, who is banned.

A source may have several lanes: connections of their own, where one cannot fill the path or has gone silent.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from p2pshare.errors import P2PShareError, RemoteError
from p2pshare.exchange.bans import Bans, seen_at
from p2pshare.exchange.limits import Limit
from p2pshare.exchange.others import EVERY, checked, is_near
from p2pshare.exchange.source import Arrival, Source, WrongBlock
from p2pshare.net.api import Network, Stream
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_messages import PROTOCOL, Holding

MAX_SOURCES: Final = 32  # connected at one time
MAX_CANDIDATES: Final = 512  # remembered
AT_ONCE: Final = 8  # connecting at one time
ANSWER: Final = 10.0  # seconds for a holder's first answer
NOTHING_AGAIN: Final = 60.0  # seconds until one that held nothing is asked again
BACKOFF: Final = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds after the first, second... failure
PART_AGAIN: Final = 2.0  # seconds between two questions to a partial holder for what it has now
MAX_TOLD: Final = 128  # peers taken from what sources tell
BESIDE_AGAIN: Final = 1.0  # seconds between two attempts at another connection that fail at once
RELIEVED: Final = 10.0  # seconds after a silent connection was replaced until the next may be
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Candidate:
    """A peer that may be a source."""

    peer_id: str
    not_before: float = 0.0
    failures: int = 0
    busy: bool = False  # being connected, or connected
    proved: bool = False  # has delivered what was right
    answered: bool = False
    held_nothing: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    lanes: dict[int, Source] = field(default_factory=dict)  # that joined
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(2))
    nursery: trio.Nursery | None = None  # of its lanes
    opening: bool = False  # a lane beside the first
    beside_at: float = 0.0  # not before


async def _dismiss(source: Source, error: WrongBlock, scope: trio.CancelScope) -> None:
    await source.report_bad(error.cid)
    scope.cancel()


async def _nothing(*_: object) -> None:
    """Takes what nobody wants yet."""


class Swarm:
    """`run` connects to what `offer` was given, and keeps trying. All for the trio thread.

    A source that joins has said that it holds something of `root`.
    """

    def __init__(
        self,
        network: Network,
        root: bytes,
        limit: Limit | None = None,
        *,
        bans: Bans | None = None,
        fetching: bool = False,
    ) -> None:
        """`fetching`: sources may tell others of us, and us of others."""
        self._network = network
        self._limit = limit
        self._root = root
        self._bans = bans if bans is not None else Bans()
        self._fetching = fetching
        self._told: set[str] = set()  # peers that other sources named
        self._candidates: dict[str, Candidate] = {}
        self._wake = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._slots = trio.CapacityLimiter(AT_ONCE)
        self.sources: dict[str, Source] = {}  # by peer, one lane of each
        self.lanes: dict[str, Source] = {}  # all, by name
        self.banned: dict[str, WrongBlock] = {}
        self.banned_at = float("-inf")  # when the last one was
        self.ever: set[str] = set()  # peers that held something at some time
        self.changed = trio.Event()  # replaced each time it is set
        self.detach()

    def attach(
        self,
        on_join: Callable[[Source], None],
        on_leave: Callable[[Source], None],
        on_arrival: Callable[[Source, Arrival], Awaitable[None]],
        on_heard: Callable[[Source, int], None],
    ) -> None:
        """Somebody downloads. `on_join` is also called when a source has more than before."""
        self.on_join, self.on_leave, self.on_arrival, self.on_heard = on_join, on_leave, on_arrival, on_heard

    def detach(self) -> None:
        """Nobody downloads (any more)."""
        self.attach(lambda source: None, lambda source: None, _nothing, lambda source, count: None)

    # -- what the finder and the downloader say --

    def offer(self, peer_id: str) -> None:
        """A peer that may hold the content. Known ones that held nothing are asked again soon."""
        if peer_id == self._network.peer_id or self._bans.peer(peer_id, trio.current_time()):
            return
        known = self._candidates.get(peer_id)
        if known is None:
            if len(self._candidates) >= MAX_CANDIDATES:
                return
            self._candidates[peer_id] = Candidate(peer_id)
            self._wake.set()

    def set_aside(self, peer_id: str) -> None:
        """Disconnect a source that stalls; it is tried again later."""
        candidate = self._candidates.get(peer_id)
        if candidate is not None:
            self._failed(candidate)
            candidate.scope.cancel()

    def doubt(self, peer_id: str) -> None:
        """A source has gone silent; it is not promising until it delivers again."""
        candidate = self._candidates.get(peer_id)
        if candidate is not None:
            candidate.failures = max(candidate.failures, 1)

    def widen(self, peer_id: str) -> None:
        """One more connection to a source, as a lane of its own. Nothing while one is being made."""
        self._beside(peer_id, {})

    def refresh(self, peer_id: str) -> None:
        """A source's connection is silent: try a fresh one beside it, which replaces what is dead."""
        candidate = self._candidates.get(peer_id)
        if candidate is not None:
            self._beside(peer_id, {lane: lane.stream.connection_received for lane in candidate.lanes.values()})

    def _beside(self, peer_id: str, suspects: dict[Source, int]) -> None:
        candidate = self._candidates.get(peer_id)
        if candidate is None or candidate.nursery is None or candidate.opening:
            return
        if trio.current_time() >= candidate.beside_at:
            candidate.opening = True
            candidate.nursery.start_soon(self._lane, candidate, next(candidate.numbers), suspects)

    async def close_lane(self, name: str) -> None:
        """End one of several lanes."""
        if name in self.lanes:
            await self.lanes[name].stream.reset()

    def lanes_of(self, peer_id: str) -> list[Source]:
        candidate = self._candidates.get(peer_id)
        return list(candidate.lanes.values()) if candidate is not None else []

    def proved(self, peer_id: str) -> None:
        """A source delivered: its earlier failures are forgiven."""
        candidate = self._candidates.get(peer_id)
        if candidate is not None:
            candidate.failures = 0
            candidate.proved = True

    def promising(self) -> bool:
        """Whether a source is here that has not failed since it last delivered."""
        return any(c.peer_id in self.sources and not c.failures for c in self._candidates.values())

    def ban(self, error: WrongBlock) -> None:
        """It sent a wrong block. It is no source of this fetch any more; it is told why before its stream ends."""
        if error.peer in self.banned:
            return
        _log.warning("%s; it is not asked again", error)
        self.banned[error.peer] = error
        self.banned_at = trio.current_time()
        self._bans.ban(error.peer, seen_at(self._network, error.peer), self.banned_at)
        candidate = self._candidates.pop(error.peer, None)
        source = self.sources.pop(error.peer, None)
        for lane in candidate.lanes.values() if candidate is not None else ():
            del self.lanes[lane.name]
            self.on_leave(lane)
        if candidate is not None and source is not None and self._nursery is not None:
            self._nursery.start_soon(_dismiss, source, error, candidate.scope)
        elif candidate is not None:
            candidate.scope.cancel()
        self._changed()

    @property
    def trying(self) -> bool:
        """Whether some candidate was not heard yet, or is to be tried again within seconds."""
        now = trio.current_time()
        return any(
            c.peer_id not in self.sources and not c.held_nothing and c.failures < 3 and c.not_before < now + 5
            for c in self._candidates.values()
        )

    def asking(self) -> int:
        return sum(c.busy and c.peer_id not in self.sources for c in self._candidates.values())

    def next_try(self) -> float | None:
        """Seconds until some candidate is tried again; None when there is none."""
        waiting = [c.not_before for c in self._candidates.values() if not c.busy]
        return max(0.0, min(waiting) - trio.current_time()) if waiting else None

    # -- connecting --

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while True:
                self._wake = trio.Event()
                now = trio.current_time()
                for candidate in list(self._candidates.values()):
                    if len(self.sources) + self.asking() >= MAX_SOURCES:
                        break
                    if not candidate.busy and candidate.not_before <= now:
                        candidate.busy = True
                        candidate.scope = trio.CancelScope()
                        nursery.start_soon(self._attend, candidate)
                with trio.move_on_after(min(self.next_try() or 1.0, 1.0) + 0.01):
                    await self._wake.wait()

    async def _attend(self, candidate: Candidate) -> None:
        """One candidate from dialling to the end of its last lane."""
        try:
            with candidate.scope:
                async with trio.open_nursery() as nursery:
                    candidate.nursery = nursery
                    nursery.start_soon(self._lane, candidate, 1, {})
        finally:
            candidate.nursery = None
            candidate.busy = False
            self._wake.set()

    async def _lane(self, candidate: Candidate, number: int, suspects: dict[Source, int]) -> None:
        """One connection's stream to its end. `suspects`: see `_relieve`."""
        try:
            await self._converse(candidate, number, suspects)
        except WrongBlock as error:
            self.ban(error)
        except (P2PShareError, trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError) as error:
            _log.debug("source %s ended: %s", candidate.peer_id, error)
            if not candidate.lanes and not candidate.opening:
                self._failed(candidate)
        finally:
            if number > 1 and candidate.opening:
                candidate.opening = False
                candidate.beside_at = max(candidate.beside_at, trio.current_time() + BESIDE_AGAIN)

    def _failed(self, candidate: Candidate) -> None:
        candidate.not_before = trio.current_time() + BACKOFF[min(candidate.failures, len(BACKOFF) - 1)]
        candidate.failures += 1

    async def _converse(self, candidate: Candidate, number: int, suspects: dict[Source, int]) -> None:
        if number == 1:
            async with self._slots:
                stream = await self._network.open_stream(candidate.peer_id, [PROTOCOL], timeout=ANSWER)
        else:
            stream = await self._network.open_stream_beside(candidate.peer_id, [PROTOCOL], timeout=ANSWER)
        if not candidate.proved and (left := self._bans.address(self._seen_at(stream), trio.current_time())):
            await stream.reset()
            candidate.not_before = trio.current_time() + left
            candidate.held_nothing = True
            _log.info("%s is at the address of one that sent a wrong block, and is not asked", candidate.peer_id)
            return
        source = Source(stream, self._arrived, self._heard, self._limit, number)
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hold, candidate, source, suspects)
                try:
                    await source.run()
                except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError, WrongBlock) as error:
                    failure = error
                nursery.cancel_scope.cancel()
        finally:
            self._left(candidate, source)
            await stream.reset()
        if failure is not None and not candidate.held_nothing:
            raise failure

    def _joined(self, candidate: Candidate, source: Source) -> None:
        self.ever.add(candidate.peer_id)
        candidate.lanes[source.lane] = self.lanes[source.name] = source
        self.sources.setdefault(candidate.peer_id, source)
        if source.lane > 1:
            candidate.opening = False
        self.on_join(source)
        self._changed()

    def _left(self, candidate: Candidate, source: Source) -> None:
        candidate.lanes.pop(source.lane, None)
        if self.lanes.get(source.name) is not source:
            return
        del self.lanes[source.name]
        if self.sources.get(candidate.peer_id) is source:
            del self.sources[candidate.peer_id]
            for other in candidate.lanes.values():
                self.sources[candidate.peer_id] = other
                break
        self.on_leave(source)
        self._changed()

    @staticmethod
    def _relieve(candidate: Candidate, suspects: dict[Source, int]) -> bool:
        """A fresh lane works: connections on which nothing at all came since they were suspected are given up.

        What such a one would still send when TCP tries again is then not sent twice. False: all have come back to
        life, and the fresh lane is not needed.
        """
        if not suspects:
            return True
        candidate.beside_at = trio.current_time() + RELIEVED
        here = [lane for lane in suspects if candidate.lanes.get(lane.lane) is lane]
        dead = [lane for lane in here if lane.stream.connection_received == suspects[lane]]
        for lane in dead:
            _log.info("a connection to %s was silent and is replaced", candidate.peer_id)
            lane.stream.abandon_connection()
        return bool(dead) or not here

    async def _hold(self, candidate: Candidate, source: Source, suspects: dict[Source, int]) -> None:
        """Ask what it holds, let it join, and go on asking one that holds a part."""
        try:
            with trio.fail_after(ANSWER):
                await self._ask(source)
            candidate.answered = True
            candidate.held_nothing = source.holding is Holding.NOTHING
            if candidate.held_nothing:
                candidate.not_before = trio.current_time() + NOTHING_AGAIN
                self._changed()
                await source.stream.reset()
                return
            if candidate.peer_id in self.banned or not self._relieve(candidate, suspects):
                await source.stream.reset()
                return
            self._joined(candidate, source)
            await self._keep_asking(source)
        except (RemoteError, RemoteProtocolError, trio.TooSlowError) as error:
            _log.debug("source %s did not say what it holds: %s", candidate.peer_id, error)
            await source.stream.reset()

    async def _keep_asking(self, source: Source) -> None:
        """What a partial holder has now, our place where we wait, and who else fetches it."""
        asked = trio.current_time()
        while True:
            await trio.sleep(PART_AGAIN)
            now = trio.current_time()
            part = source.holding is Holding.PART
            silent = source.owes and not source.busy and now - source.heard_at > PART_AGAIN
            if part or source.queue or silent or (self._fetching and now - asked >= EVERY):
                asked = now
                await self._ask(source)
                if part:
                    self.on_join(source)

    async def _ask(self, source: Source) -> None:
        await source.ask_holding(self._root, fetching=self._fetching)
        if not source.others:
            return
        for peer, addresses in checked(source.others, private=is_near(self._network, source.peer)):
            if len(self._told) < MAX_TOLD or peer in self._told:
                self._told.add(peer)
                self._network.add_addresses(peer, addresses)
                self.offer(peer)

    def _seen_at(self, stream: Stream) -> str | None:
        return seen_at(self._network, stream.peer_id)

    async def _arrived(self, source: Source, arrival: Arrival) -> None:
        await self.on_arrival(source, arrival)

    def _heard(self, source: Source, count: int) -> None:
        self.on_heard(source, count)

    def _changed(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
