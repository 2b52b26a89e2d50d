"""The sources of one fetch: who may be one, who is connected, who is put aside for a while, who is banned."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from p2pshare.errors import P2PShareError, RemoteError
from p2pshare.exchange.limits import RateLimit
from p2pshare.exchange.source import Arrival, Source, WrongBlock
from p2pshare.net.api import Network
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_messages import PROTOCOL, Holding

MAX_SOURCES: Final = 32  # connected at one time
MAX_CANDIDATES: Final = 512  # remembered
AT_ONCE: Final = 8  # connecting at one time
ANSWER: Final = 10.0  # seconds for a holder's first answer
NOTHING_AGAIN: Final = 60.0  # seconds until one that held nothing is asked again
BACKOFF: Final = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds after the first, second... failure
PART_AGAIN: Final = 2.0  # seconds between two questions to a partial holder for what it has now
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Candidate:
    """A peer that may be a source."""

    peer_id: str
    not_before: float = 0.0
    failures: int = 0
    busy: bool = False  # being connected, or connected
    answered: bool = False
    held_nothing: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


async def _dismiss(source: Source, error: WrongBlock, scope: trio.CancelScope) -> None:
    await source.report_bad(error.cid)
    scope.cancel()


async def _nothing(*_: object) -> None:
    """Takes what nobody wants yet."""


class Swarm:
    """`run` connects to what `offer` was given, and keeps trying. All for the trio thread.

    A source that joins has said that it holds something of `root`.
    """

    def __init__(self, network: Network, root: bytes, limit: RateLimit | None = None) -> None:
        self._network = network
        self._limit = limit
        self._root = root
        self._candidates: dict[str, Candidate] = {}
        self._wake = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._slots = trio.CapacityLimiter(AT_ONCE)
        self.sources: dict[str, Source] = {}
        self.banned: dict[str, WrongBlock] = {}
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
        if peer_id == self._network.peer_id or peer_id in self.banned:
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

    def proved(self, peer_id: str) -> None:
        """A source delivered: its earlier failures are forgiven."""
        candidate = self._candidates.get(peer_id)
        if candidate is not None:
            candidate.failures = 0

    def promising(self) -> bool:
        """Whether a source is here that has not failed since it last delivered."""
        return any(c.peer_id in self.sources and not c.failures for c in self._candidates.values())

    def ban(self, error: WrongBlock) -> None:
        """It sent a wrong block. It is no source of this fetch any more; it is told why before its stream ends."""
        if error.peer in self.banned:
            return
        _log.warning("%s; it is not asked again for this fetch", error)
        self.banned[error.peer] = error
        candidate = self._candidates.pop(error.peer, None)
        source = self.sources.pop(error.peer, None)
        if candidate is not None and source is not None and self._nursery is not None:
            self.on_leave(source)
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
        """One candidate from dialling to the end of its stream."""
        try:
            with candidate.scope:
                await self._converse(candidate)
        except WrongBlock as error:
            self.ban(error)
        except (P2PShareError, trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError) as error:
            _log.debug("source %s ended: %s", candidate.peer_id, error)
            self._failed(candidate)
        finally:
            candidate.busy = False
            self._wake.set()

    def _failed(self, candidate: Candidate) -> None:
        candidate.not_before = trio.current_time() + BACKOFF[min(candidate.failures, len(BACKOFF) - 1)]
        candidate.failures += 1

    async def _converse(self, candidate: Candidate) -> None:
        async with self._slots:
            stream = await self._network.open_stream(candidate.peer_id, [PROTOCOL], timeout=ANSWER)
        source = Source(stream, self._arrived, self._heard, self._limit)
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hold, candidate, source)
                try:
                    await source.run()
                except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError, WrongBlock) as error:
                    failure = error
                nursery.cancel_scope.cancel()
        finally:
            if self.sources.get(candidate.peer_id) is source:
                del self.sources[candidate.peer_id]
                self.on_leave(source)
                self._changed()
            await stream.reset()
        if failure is not None and not candidate.held_nothing:
            raise failure

    async def _hold(self, candidate: Candidate, source: Source) -> None:
        """Ask what it holds, let it join, and go on asking one that holds a part."""
        try:
            with trio.fail_after(ANSWER):
                await source.ask_holding(self._root)
            candidate.answered = True
            candidate.held_nothing = source.holding is Holding.NOTHING
            if candidate.held_nothing:
                candidate.not_before = trio.current_time() + NOTHING_AGAIN
                self._changed()
                await source.stream.reset()
                return
            self.ever.add(candidate.peer_id)
            self.sources[candidate.peer_id] = source
            self.on_join(source)
            self._changed()
            while source.holding is Holding.PART:
                await trio.sleep(PART_AGAIN)
                await source.ask_holding(self._root)
                self.on_join(source)
        except (RemoteError, RemoteProtocolError, trio.TooSlowError) as error:
            _log.debug("source %s did not say what it holds: %s", candidate.peer_id, error)
            await source.stream.reset()

    async def _arrived(self, source: Source, arrival: Arrival) -> None:
        await self.on_arrival(source, arrival)

    def _heard(self, source: Source, count: int) -> None:
        self.on_heard(source, count)

    def _changed(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
