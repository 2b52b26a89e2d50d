"""Hot answers: a storing node that is asked the same often gives its answer to the nodes around, for some minutes.

Both sides: counting and pushing where postings are kept, copies and answering from them elsewhere. A copy is taken
only from a node that is to keep the term, as far as we know, and is believed by nobody: askers check every record.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from p2pshare.dht.api import DHT
from p2pshare.errors import P2PShareError
from p2pshare.index.lines import open_line
from p2pshare.index.regions import Regions
from p2pshare.net.api import Network
from p2pshare_protocols import index_hot, kad_keys
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols.index_hot import Hot
from p2pshare_protocols.index_messages import PROTOCOL
from p2pshare_protocols.item_record import Signed, term_key
from p2pshare_protocols.query import Query

_QUEUE: Final = 16  # answers that wait to be pushed; more are dropped
_AT_ONCE: Final = 8  # nodes that are told at the same time
_LINE: Final = 5.0  # seconds for one of them
_LOOKUPS: Final = 4  # under way because somebody pushes

LookUp = Callable[[str, Query, int], tuple[list[Signed], bool]]
_log = logging.getLogger(__name__)


class _Copy(NamedTuple):
    hot: Hot
    until: float


class HotAnswers:
    """`clock` is trio's; `look_up` gives this node's own answer to (term, query, limit), and whether it is all."""

    def __init__(
        self,
        net: Network,
        dht: DHT,
        regions: Regions,
        look_up: LookUp,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._net = net
        self._dht = dht
        self._regions = regions
        self._look_up = look_up
        self._clock = clock
        self._asked: OrderedDict[bytes, list[float]] = OrderedDict()
        self._copies: OrderedDict[bytes, _Copy] = OrderedDict()
        self._under_way = 0
        self._send, self._receive = trio.open_memory_channel[wire.Find](_QUEUE)

    def asked(self, request: wire.Find) -> None:
        """A question was answered from our own postings: when it is hot its answer will be pushed, once a life."""
        now = self._clock()
        key = index_hot.question(request.term, request.query)
        times = [at for at in self._asked.pop(key, []) if at > now - index_hot.WINDOW]
        times.append(now)
        if len(times) == index_hot.ASKS:
            try:
                self._send.send_nowait(request)
                times = [now + index_hot.LIFE]  # is of no window until the copies are over
            except trio.WouldBlock:
                times = []
        self._asked[key] = [times[0]] if times and times[0] > now else times
        if len(self._asked) > index_hot.MAX_COUNTED:
            self._asked.popitem(last=False)

    async def run(self) -> None:
        """Push what is hot; until cancelled."""
        async for request in self._receive:
            try:
                await self._push(request)
            except P2PShareError as error:
                _log.debug("an answer was not pushed: %s", error)

    async def _push(self, request: wire.Find) -> None:
        found, complete = self._look_up(request.term, request.query, request.limit)
        records, everything = index_hot.trimmed(found)
        if not records:
            return
        hot = Hot(request.term, request.query, request.limit, records, complete and everything)
        frame = index_hot.encode(hot)
        limiter = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for peer_id in await self._around(request.term):
                nursery.start_soon(self._tell, peer_id, frame, limiter)

    async def _around(self, term: str) -> list[str]:
        """The nodes nearest to the term's key that we know, ourselves and those that keep the term left out."""
        key = term_key(term)
        place = kad_keys.key_of(key)
        near = await self._dht.closest(key, index_hot.AROUND)
        for one in near:
            self._net.add_addresses(one.peer_id, one.addresses)
        known = {one.peer_id for one in near} | {info.peer_id for info in self._net.peers()}
        keepers = {one.peer_id for one in await self._regions.nodes(term)}
        speak = [one for one in known - keepers if PROTOCOL in (self._net.protocols_of(one) or {PROTOCOL})]
        return sorted(speak, key=lambda one: kad_keys.peer_key(one) ^ place)[: index_hot.AROUND]

    async def _tell(self, peer_id: str, frame: bytes, limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            try:
                async with open_line(self._net, peer_id, _LINE) as line:
                    await line.push(frame)
            except P2PShareError as error:
                _log.debug("%s takes no copy: %s", peer_id, error)

    async def take(self, peer_id: str, hot: Hot) -> bool:
        """Keep a copy that a storing node of the term pushes; False when the peer is none, as far as we know."""
        if self._under_way >= _LOOKUPS:
            return False
        self._under_way += 1
        try:
            keepers = [one.peer_id for one in await self._regions.nodes(hot.term)]
        finally:
            self._under_way -= 1
        if peer_id not in keepers:
            return False
        key = index_hot.question(hot.term, hot.query)
        self._copies.pop(key, None)
        self._copies[key] = _Copy(hot, self._clock() + index_hot.LIFE)
        while len(self._copies) > index_hot.MAX_COPIES:
            self._copies.popitem(last=False)
        return True

    def copy(self, request: wire.Find) -> bytes | None:
        """All frames of the answer from a copy; None when there is none."""
        key = index_hot.question(request.term, request.query)
        copy = self._copies.get(key)
        if copy is None:
            return None
        hot, until = copy
        if until <= self._clock():
            del self._copies[key]
            return None
        records = hot.records[: request.limit]
        frames, everything = wire.pages((one, 0) for one in records)
        all_of_it = hot.complete and everything and len(records) == len(hot.records)
        end = wire.FindEnd(all_of_it and request.limit <= hot.limit, {}, hot=True)
        return b"".join(wire.encode(frame) for frame in frames) + wire.encode(end)
