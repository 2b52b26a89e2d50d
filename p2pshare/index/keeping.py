"""The storing side of postings: what publishers place here, who of them lives, and finding among it.

Nothing is believed that costs more to believe than to check: a statement's signature always, records' by samples.
"""

from __future__ import annotations

import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

import trio

from p2pshare.errors import LocalError, RemoteError
from p2pshare.index.hot import HotAnswers
from p2pshare.index.limits import Allowance, Rates
from p2pshare.net.api import Network, Stream
from p2pshare.store import Store
from p2pshare.store.postings import Kept, Owner
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols import item_record, multiaddr, postings_shard
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.item_record import IDENTITY, ItemRecord, Signed, Tombstone
from p2pshare_protocols.postings_room import Origin, subnets
from p2pshare_protocols.query import Query

CLOCKS: Final = 3600.0  # seconds by which a publisher's clock may differ from ours
SAMPLED: Final = 16  # of as many records one signature is checked when they come
_SLICE: Final = 25  # records stored before other tasks run: 25 ms
_CAUGHT: Final = 1024  # publishers that are remembered for a false signature
_SCANNED: Final = 2000  # records that one question may look at
_TIDY: Final = 3600.0  # seconds
_RATES: Final = Rates((10.0, 200.0), (0.25, 10.0), (40.0, 400.0), (0.5, 20.0))

_log = logging.getLogger(__name__)


class Keeper:
    """Answers the requests with `op` for an IndexServer. `wall_clock` gives unix seconds."""

    def __init__(
        self,
        net: Network,
        store: Store,
        *,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self._net = net
        self._store = store
        self._now = wall_clock
        self._rng = rng or random.SystemRandom()
        self._allowance = Allowance(trio.current_time(), _RATES) if allowance is None else allowance
        self.hot: HotAnswers | None = None
        self._caught: OrderedDict[bytes, None] = OrderedDict()

    async def tidy(self) -> None:
        """Delete what belongs to publishers that are gone for 14 days, every hour in short steps; until cancelled."""
        while True:
            try:
                while self._store.postings.expire(self._now()):
                    await trio.lowlevel.checkpoint()
            except LocalError as error:
                _log.warning("old postings could not be deleted: %s", error)
            await trio.sleep(_TIDY)

    async def answer(self, stream: Stream, request: wire.Request) -> bytes:
        """All frames of the answer. Raises RemoteProtocolError and RemoteError for what is not allowed."""
        if isinstance(request, wire.Find):
            await trio.lowlevel.checkpoint()
            return self._find(request)
        if not self._allowance.take(stream.peer_id, trio.current_time()):
            raise RemoteError("the peer places postings too fast", kind="failed")
        owner = self._owner(stream.peer_id, request.by)
        if isinstance(request, wire.Heartbeat):
            rows = self._store.postings.of_owner(owner)
            buckets = await trio.to_thread.run_sync(wire.buckets_of, rows)
            terms = {row[0]: None for row in rows}
            return wire.encode(wire.Digest(buckets, self._sharded(terms)))
        if isinstance(request, wire.Only):
            low, high = bytes([request.bucket << 2]), bytes([(request.bucket << 2) + 3]) + b"\xff" * IDENTITY
            gone = self._store.postings.keep_only(owner, low, high, request.identities)
            return wire.encode(wire.Kept((gone,)))
        if isinstance(request, wire.Remove):
            return wire.encode(wire.Kept(tuple(self._bury(owner, one) for one in request.tombstones)))
        return wire.encode(await self._store_all(stream.peer_id, owner, request))

    def _sharded(self, terms: Collection[str]) -> tuple[str, ...]:
        full = [term for term in self._store.postings.full_lists() if term in terms]
        return tuple(full[-wire.MAX_SHARDED :])

    def _owner(self, sender: str, by: wire.Statement) -> Owner:
        """Who places, after the statement was checked; from now on the publisher is known to live."""
        now = self._now()
        origin = Origin(by.publisher, *self._subnets(sender))
        known = self._store.postings.owner(origin, sender)
        if abs(by.time - now) > CLOCKS or (known is not None and by.time < known.stated):
            raise RemoteProtocolError("a statement is not of this time")
        if not by.holds(sender, self._net.peer_id):
            raise RemoteProtocolError("a statement is not signed by its publisher, for this sender and for us")
        owner = self._store.postings.heard(origin, sender, by.time, now)
        if owner is None:
            raise RemoteError("there is no room for another publisher", kind="failed")
        return owner

    def _subnets(self, peer_id: str) -> tuple[str, str]:
        address = next((info.address for info in self._net.peers() if info.peer_id == peer_id), "")
        ip = multiaddr.ip_of(address) if address else None
        return subnets(str(ip))

    async def _store_all(self, peer_id: str, owner: Owner, request: wire.Store) -> wire.Kept:
        kept: list[int] = []
        refused: list[int] = []
        for at in range(0, len(request.entries), _SLICE):
            begin = trio.current_time()
            checked = [(entry, self._checked(entry)) for entry in request.entries[at : at + _SLICE]]
            with self._store.relaxed():
                for entry, record in checked:
                    there = self._store.postings.put_under(owner, entry.signed, record, entry.terms)
                    kept.append(len(there))
                    refused.append(sum(1 << n for n, term in enumerate(entry.terms) if term not in there))
            now = trio.current_time()
            self._allowance.spend(peer_id, now - begin, now)
            await trio.lowlevel.checkpoint()
        terms = {term: None for entry in request.entries for term in entry.terms}
        return wire.Kept(tuple(kept), self._sharded(terms), tuple(refused) if any(refused) else ())

    def _checked(self, entry: wire.Entry) -> ItemRecord:
        record = item_record.decode(entry.signed.body)
        if not isinstance(record, ItemRecord):
            raise RemoteProtocolError("a tombstone has postings")
        if not set(entry.terms) <= _allowed(record, entry):
            raise RemoteProtocolError("a posting's term is not a word of its record")
        publisher = entry.signed.publisher
        if (publisher in self._caught or self._rng.randrange(SAMPLED) == 0) and not entry.signed.holds():
            self._caught[publisher] = None
            if len(self._caught) > _CAUGHT:
                self._caught.popitem(last=False)
            raise RemoteProtocolError("a record is not signed by its publisher")
        return record

    def _bury(self, owner: Owner, signed: Signed) -> int:
        tombstone = item_record.decode(signed.body)
        if not isinstance(tombstone, Tombstone) or not signed.holds():
            raise RemoteProtocolError("a tombstone is none, or not signed by its publisher")
        return self._store.postings.bury(owner, signed, tombstone.identity, tombstone.sequence)

    def look_up(self, term: str, query: Query, limit: int) -> tuple[list[Kept], bool]:
        """Records under `term` that the query lets through; True when none was left out. Signatures are not checked."""
        also = [word for word in query.words if word != term]
        found: list[Kept] = []
        candidates = self._store.postings.find(term, also, self._now(), _SCANNED)
        for one in candidates:
            try:
                record = item_record.decode(one.signed.body)
            except RemoteProtocolError:  # an older version kept it
                continue
            if isinstance(record, ItemRecord) and query.matches(record.row(one.signed.publisher).record()):
                if len(found) == limit:
                    return found, False
                found.append(one)
        return found, len(candidates) < _SCANNED

    def tell(self, term: str, query: Query, limit: int) -> tuple[list[Signed], bool]:
        """What `look_up` finds, without proofs."""
        found, complete = self.look_up(term, query, limit)
        return [one.signed for one in found], complete

    def _find(self, request: wire.Find) -> bytes:
        """From a copy of what is hot when no posting of the term is here."""
        if self.hot is None:
            return self.find(request)
        own = bool(self._store.postings.counts([request.term]))
        if not own and (copy := self.hot.copy(request)) is not None:
            return copy
        if own:
            self.hot.asked(request)
        return self.find(request)

    def find(self, request: wire.Find) -> bytes:
        found, complete = self.look_up(request.term, request.query, request.limit)
        frames, everything = wire.pages(found)
        terms = list(dict.fromkeys([request.term, *terms_of(request.query)]))[: wire.MAX_COUNTED - 1]
        full = tuple(self._store.postings.full(request.term))
        counts, sharded = self._store.postings.counts(terms), self._store.postings.is_full(request.term)
        end = wire.FindEnd(complete and everything, counts, full, sharded)
        return b"".join(wire.encode(frame) for frame in frames) + wire.encode(end)

    def counts(self, query: Query) -> dict[str, int]:
        return self._store.postings.counts(terms_of(query))


def _allowed(record: ItemRecord, entry: wire.Entry) -> set[str]:
    """The terms under which a record may stand: its words, its publisher's overflow of them, and their shards."""
    words = set(record.terms())
    if any(term.startswith(item_record.OVERFLOW) for term in entry.terms):
        words |= {item_record.overflow(word, entry.signed.publisher) for word in words}
    if any(term.startswith(postings_shard.SHARD) for term in entry.terms):
        words |= {one for word in record.terms() for one in postings_shard.shards_of(word, record.cid)}
    return words


def terms_of(query: Query) -> list[str]:
    """The terms of which every one must hold in a record that matches, each once."""
    return list(dict.fromkeys([*query.words, *(term for phrase in query.phrases for term in phrase)]))
