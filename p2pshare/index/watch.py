"""Searches that go on after the client went: asked again now and then, and when a peer has something new.

What a watch tells is an event of topic "search", once for each CID; the catalogue remembers both over a restart.
"""

from __future__ import annotations

import logging
import math
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

import trio

from p2pshare.errors import P2PShareError
from p2pshare.index.client import IndexClient
from p2pshare.index.tiers import PeerTier
from p2pshare.net.api import Network
from p2pshare.store import Store
from p2pshare.store.watches import Watch
from p2pshare_protocols.index_browse import Browse
from p2pshare_protocols.index_messages import PROTOCOL, Row

INTERVAL: Final = 300.0  # seconds, about, between two times that a watch asks the whole network
POLL: Final = 15.0  # the same between two looks at whether a connected peer shares something new
ROWS: Final = 200  # of one answer; what is beyond comes when these have been told
_JITTER: Final = 0.25  # part of a time by which it is longer or shorter
_FIRST: Final = 30.0  # seconds after the start within which each is asked again
_PEERS: Final = 32  # looked at in one go, drawn at random when there are more
_AT_ONCE: Final = 8
_ANSWER: Final = 5.0  # seconds for a peer to say what is newest
_REMEMBERED: Final = 1024  # peers whose newest item is remembered

Emit = Callable[[dict[str, Any]], Awaitable[None]]
Ask = Callable[[Mapping[str, Any], Emit, Collection[str] | None], Awaitable[None]]
"""(the search's params, emit, peers to ask or None for everybody): one round; raises P2PShareError."""
Newest = Callable[[], Awaitable[Mapping[str, int]]]
"""For each connected peer that answers, a number that grows when it shares something new."""

_log = logging.getLogger(__name__)


class Watcher:
    """`run` asks; `start` and `remove` may be called at any time in its thread."""

    def __init__(
        self, store: Store, ask: Ask, newest: Newest, *, rng: random.Random, wall_clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._ask = ask
        self._newest = newest
        self._rng = rng
        self._now = wall_clock
        self._due: dict[int, float] = {}  # seconds of trio's clock
        self._known: OrderedDict[str, int] = OrderedDict()
        self._wake = trio.Event()

    def start(self, params: Mapping[str, Any], known: Iterable[str] = ()) -> Watch:
        """Watch a search from now on; the same one is watched once. Raises QuotaExceeded."""
        watch, _ = self._store.watches.add(params, since=self._store.events.last_seq, known=known)
        self._due[watch.id] = trio.current_time()
        self._wake.set()
        return watch

    def remove(self, number: int) -> None:
        """Raises NotFound."""
        self._store.watches.remove(number)
        self._due.pop(number, None)

    async def run(self) -> None:
        """Until cancelled."""
        for watch in self._store.watches.list():
            self._due.setdefault(watch.id, trio.current_time() + self._rng.uniform(0, _FIRST))
        look = trio.current_time() + self._about(POLL)
        while True:
            until = min(self._due.values(), default=math.inf)
            with trio.move_on_at(min(until, look) if self._due else math.inf):
                await self._wake.wait()
            self._wake = trio.Event()
            for number in [one for one, due in self._due.items() if due <= trio.current_time()]:
                await self._round(number, None)
                if number in self._due:
                    self._due[number] = trio.current_time() + self._about(INTERVAL)
                    self._store.watches.asked(number, self._now())
            if self._due and look <= trio.current_time():
                if changed := await self._changed():
                    for number in list(self._due):
                        await self._round(number, changed)
                look = trio.current_time() + self._about(POLL)

    def _about(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    async def _round(self, number: int, peers: Collection[str] | None) -> None:
        found: dict[str, dict[str, Any]] = {}

        async def take(event: dict[str, Any]) -> None:
            if event.get("event") == "result" and not event.get("update"):
                found.setdefault(event["cid"], event)

        try:
            await self._ask(self._store.watches.get(number).params, take, peers)
            if number in self._due:
                self._tell(number, found)
        except P2PShareError as error:
            _log.warning("watch %d could not ask: %s", number, error)

    def _tell(self, number: int, found: Mapping[str, dict[str, Any]]) -> None:
        """Told and remembered in one, so that a crash neither loses a result nor tells it twice."""
        with self._store.transaction():
            fresh = self._store.watches.fresh(number, found)
            for cid in [one for one in found if one in fresh]:
                self._store.events.append("search", {**found[cid], "watch": number})

    async def _changed(self) -> set[str]:
        """Connected peers that share something new, or are new themselves."""
        newest = await self._newest()
        changed = {peer for peer, number in newest.items() if number > self._known.get(peer, 0)}
        for peer, number in newest.items():
            self._known[peer] = number
            self._known.move_to_end(peer)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return changed


class SomePeers(PeerTier):
    """Of the connected peers only these."""

    def __init__(self, net: Network, peers: Collection[str]) -> None:
        super().__init__(net)
        self._some = peers

    def _speakers(self) -> list[str]:
        return [peer for peer in super()._speakers() if peer in self._some]


def newest_of_peers(net: Network, rng: random.Random) -> Newest:
    """Asks up to 32 connected peers that speak /p2pshare/index/1.0.0. One that does not answer says nothing."""
    client = IndexClient(net)

    async def ask_all() -> Mapping[str, int]:
        found: dict[str, int] = {}
        places = trio.CapacityLimiter(_AT_ONCE)

        async def ask(peer: str) -> None:
            async with places:
                try:
                    found[peer] = (await client.browse(peer, Browse(0, 0), _ignore, timeout=_ANSWER)).newest
                except P2PShareError as error:
                    _log.debug("peer %s does not say what is new: %s", peer, error)

        peers = [
            one for one in dict.fromkeys(info.peer_id for info in net.peers()) if PROTOCOL in net.protocols_of(one)
        ]
        async with trio.open_nursery() as nursery:
            for peer in rng.sample(peers, min(_PEERS, len(peers))):
                nursery.start_soon(ask, peer)
        return found

    return ask_all


async def _ignore(_: Row) -> None:
    """An answer to `limit` 0 has no rows."""
