"""Keeping our own items findable by words: records signed, postings placed, heartbeats sent, tombstones told.

Durable without a list of its own: what is left to do follows from the catalogue, so that it goes on after a restart.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import trio

from p2pshare.dht.api import DHT, Receipt
from p2pshare.errors import LocalError, P2PShareError
from p2pshare.identity import Identity
from p2pshare.index.lines import Line, open_line
from p2pshare.index.regions import Regions
from p2pshare.index.signing import QUICK, REST, Signer, breathe, place_of
from p2pshare.net.api import Network
from p2pshare.store import Item, Store
from p2pshare.store.own_postings import WAITING, Mine
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols import item_record, postings_shard
from p2pshare_protocols.item_record import ItemRecord, Signed, Tombstone
from p2pshare_protocols.postings_place import REPLICAS, Life

SPARSE: Final = (
    600.0  # seconds after which a term's place is looked up again while there are fewer than 8 servers to place at
)
FAILED: Final = 120.0  # the same when a server did not take them
BEAT: Final = 24 * 3600.0
_SWEPT: Final = "index.sweep"  # in the store: the same otherwise, as the last sweeps showed servers to live
_TERMS: Final = 200  # placed in one go
_FEW: Final = 50  # the same in the background
_BURIED: Final = 100  # records made tombstones in one go
_IDLE: Final = 20.0  # seconds between looks at the catalogue: unshare takes effect within them
_RETRY: Final = 3.0  # the same while something waits for a server to be found
_WAIT: Final = 3.0  # seconds that a share waits for its words to be placed
_WAIT_LARGE: Final = 0.5  # seconds, for more files than QUICK
_LINE: Final = 60.0  # seconds for all that one node gets in one go
_NODES: Final = 4  # at the same time
_FULL: Final = 10_000  # terms that are remembered as full
_LATER: Final = 3600.0  # seconds until a node that did not take a heartbeat is tried again
_Standing = tuple[str, int, bytes, int]  # term, record, identity, sequence
_Refused = defaultdict[tuple[int, str], set[str]]  # (record, term) -> the nodes that have no room for it
_log = logging.getLogger(__name__)


class Placer:
    """`run` does the work; `post` hurries for one item. `publisher` signs; `files_inside`: of one share, at most."""

    def __init__(
        self,
        store: Store,
        net: Network,
        dht: DHT,
        publisher: Identity,
        regions: Regions,
        *,
        files_inside: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._own = store.own_postings
        self._net = net
        self._dht = dht
        self._publisher = publisher
        self._regions = regions
        self._now = wall_clock
        self._look = True  # at the catalogue: what is new in it, what is gone
        self._wake = trio.Event()
        self._placed = trio.Event()  # set after each round, and replaced
        self._urgent: dict[int, None] = {}
        self._later: dict[str, float] = {}
        self._signer = Signer(store, publisher, files_inside=files_inside, begun=self._nudge, wall_clock=wall_clock)
        self._full = OrderedDict(self._own.said_full(_FULL))  # terms, and the nodes that said their lists are full
        self._life = Life(float(store.get_meta(_SWEPT) or 0.0))

    # -- what the verbs call --

    async def post(self, item: Item) -> Receipt:
        """Make `item` findable by its words: how many of its postings are placed, of how many known so far.

        Waits 3 s at most; for a large directory until some are placed, half a second at most: its records are signed
        and placed in the background.
        Receipt(0, 0) at once when no server is known. Raises LocalError.
        """
        large = item.files > QUICK
        if not large:
            await self._publish(item.id)
            self._urgent[item.id] = None
        self.wake()
        if not self._dht.status().get("nodes"):
            return Receipt(0, 0)
        self._urgent[item.id] = None
        with trio.move_on_after(_WAIT_LARGE if large else _WAIT):
            while not self._is_placed(item.id, large=large):
                await self._placed.wait()
        if large:
            self._urgent.pop(item.id, None)
        return Receipt(*self._own.placed_of(item.id))

    def _is_placed(self, item: int, *, large: bool) -> bool:
        stored, asked = self._own.placed_of(item)
        if large and stored:
            return True
        return self._own.has(item) and (stored >= asked or not self._own.waiting_of(item, 1))

    def wake(self) -> None:
        """Something was shared or unshared."""
        self._look = True
        self._wake.set()

    # -- the work --

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                pause = _IDLE
                try:
                    if await self._step(nursery):
                        continue
                    if self._own.waiting(1):
                        pause = _RETRY
                except LocalError as error:
                    _log.warning("words could not be placed: %s", error)
                with trio.move_on_after(pause):
                    await self._wake.wait()
                self._look = True

    async def _step(self, nursery: trio.Nursery) -> bool:
        """A piece of the work; False when there is nothing left for now. Large items are signed in `nursery`."""
        await trio.lowlevel.checkpoint()
        if self._look:
            self._look = False
            gone = self._own.withdrawn()
            under_way = self._signer.under_way
            new = [item for item in self._own.unpublished(20 + len(under_way)) if item not in under_way]
            for item in gone:
                await self._withdraw(item)
            for item in new:
                if self._signer.is_large(item):
                    nursery.start_soon(self._publish_later, item)
                else:
                    await self._publish(item)
            self._look |= bool(gone or new)
        begin = trio.current_time()
        hurried = self._hurried()
        waiting = hurried or self._own.waiting(_FEW)
        terms = waiting or self._own.due(self._now(), _FEW)
        if terms and await self._place(terms, sweep=not waiting):
            if not hurried:
                with trio.move_on_after(min(1.0, REST * (trio.current_time() - begin))):
                    await self._wake.wait()
                await breathe(trio.current_time())
            return True
        for node in self._own.silent(self._now() - BEAT):
            if self._later.get(node, 0.0) <= self._now():
                await self._beat(node)
        return False

    def _hurried(self) -> list[str]:
        for item in list(self._urgent):
            if terms := self._own.waiting_of(item, _TERMS):
                return terms
            if item not in self._signer.under_way:
                del self._urgent[item]
        return []

    async def _publish(self, item: int) -> None:
        await self._signer.publish(item)
        self._changed()

    async def _publish_later(self, item: int) -> None:
        try:
            await self._publish(item)
        except LocalError as error:
            _log.warning("words could not be placed: %s", error)
        self.wake()

    def _nudge(self) -> None:
        self._wake.set()

    def _changed(self) -> None:
        """Let those who wait in `post` look again."""
        self._placed.set()
        self._placed = trio.Event()

    async def _withdraw(self, item: int) -> None:
        sequence = int(self._now() * 1000)
        while records := self._own.records_of(item, _BURIED):
            for record in records:
                last = max(sequence, record.sequence + 1)
                tombstone = item_record.sign(Tombstone(record.identity, last), self._publisher.private)
                self._own.bury(record.id, last, tombstone)
            await trio.lowlevel.checkpoint()
        self._own.forget(item)

    async def _place(self, terms: list[str], *, sweep: bool = False) -> bool:
        """Place what waits under `terms`, and what stands there already at servers that are new. False: no server."""
        plans: dict[str, dict[int, tuple[Mine, list[str]]]] = defaultdict(dict)
        tasks: list[tuple[str, list[str], list[Mine]]] = []
        for term in terms:
            nodes = [one.peer_id for one in await self._regions.nodes(term)]
            if not nodes:
                continue
            before = self._own.nodes_of(term)
            if sweep:
                self._see_life(nodes, before)
                self._own.offer_again(term, everything=False)
            mine = self._own.under(term, waiting_only=not before or set(nodes) <= set(before))
            for one in mine:
                for node in _places(one, nodes, before):
                    plans[node].setdefault(one.id, (one, []))[1].append(term)
            tasks.append((term, nodes, mine))
            await trio.lowlevel.checkpoint()
        full = {term for term, nodes, _ in tasks if self._is_full(term, len(nodes))}
        took: set[str] = set()
        refused: _Refused = defaultdict(set)
        limiter = trio.CapacityLimiter(_NODES)
        async with trio.open_nursery() as nursery:
            for node, records in plans.items():
                nursery.start_soon(self._tell, node, list(records.values()), took, refused, limiter)
        for term, nodes, mine in tasks:
            self._note(term, nodes, mine, took, set(plans), refused)
            if self._is_full(term, len(nodes)) and (sweep or term not in full):  # what stood there before it was full
                mine = [*mine, *self._own.under(term, waiting_only=False)]
            self._part(term, mine, len(nodes))
        self._changed()
        return any(node in took for node in plans) or (bool(tasks) and not plans)

    def _see_life(self, nodes: list[str], before: tuple[str, ...]) -> None:
        """Whether servers live long, from a term that had all its servers at the last sweep."""
        if len(before) < REPLICAS:
            return
        after = self._life.after
        self._life.found(len(before), len(set(before).intersection(nodes)))
        if self._life.after != after:
            self._store.set_meta(_SWEPT, str(self._life.after))

    def _say_full(self, node: str, term: str, full: bool = True) -> None:
        """Remember, also over a restart, whether a node says that its list of a term is full."""
        said = self._full.get(term, set())
        if full == (node in said):
            return
        said = said | {node} if full else said - {node}
        self._own.say_full(term, said)
        if said:
            self._full[term] = said
        else:
            del self._full[term]
        if len(self._full) > _FULL:
            self._full.popitem(last=False)

    def _is_full(self, term: str, nodes: int) -> bool:
        return postings_shard.agreed(len(self._full.get(term, ())), nodes)

    def _hear_full(self, node: str, terms: Iterable[str]) -> None:
        """What a heartbeat told: all that stands under a term with a full list, from long ago too, is to be parted."""
        for term in terms:
            self._say_full(node, term)
            self._part(term, self._own.under(term, waiting_only=False), len(self._own.nodes_of(term)))

    def _part(self, term: str, mine: Iterable[Mine], nodes: int) -> None:
        """What stands under a term whose list is full, as enough of its `nodes` say, is to stand in a shard too."""
        if not self._is_full(term, nodes):
            return
        found: list[tuple[int, str, bytes]] = []
        for one in mine:
            record = None if one.removed else item_record.decode(one.body)
            if isinstance(record, ItemRecord):
                beyond = postings_shard.next_list(record.terms(), term, record.cid)
                if beyond is not None:
                    found.append((one.id, beyond, place_of(beyond)))
        self._own.also(found)

    def _note(  # noqa: PLR0917 - it is the end of _place
        self, term: str, nodes: list[str], mine: list[Mine], took: set[str], told: set[str], refused: _Refused
    ) -> None:
        """Write down where a term stands now: at those that `took`, and at those that had it and were not `told`.

        What all of them `refused` since their lists are full stands in a shard only, and is not offered again, but for
        one a sweep that finds out whether there is room now.
        """
        before = self._own.nodes_of(term)
        there = [node for node in nodes if node in took or (node in before and node not in told)]
        if not there and mine:
            return  # nobody took them; they wait
        pause = FAILED if len(there) < len(nodes) else SPARSE if len(nodes) < REPLICAS else self._life.after
        beyond = item_record.overflow(term, self._publisher.public)
        heard = took.intersection(nodes)
        full = self._is_full(term, len(nodes))
        over = {one.id for one in mine if full and heard and refused[one.id, term] >= heard}
        due, more = self._now() + pause, (beyond, place_of(beyond))
        self._own.placed(term, there, due, mine, overflow=more, refused=over)
        if not full and any(one.placed == WAITING and not refused[one.id, term] for one in mine):
            self._own.offer_again(term, everything=True)

    async def _tell(
        self,
        node: str,
        records: list[tuple[Mine, list[str]]],
        took: set[str],
        refused: _Refused,
        limiter: trio.CapacityLimiter,
    ) -> None:
        """Give a node what it is to have. It is in `took` when it answered to all of it."""
        async with limiter:
            try:
                async with open_line(self._net, node, _LINE) as line:
                    for refusal in await self._send(line, node, records):
                        refused[refusal].add(node)
            except P2PShareError as error:
                _log.debug("%s did not take postings: %s", node, error)
                return
        took.add(node)

    async def _send(self, line: Line, node: str, records: Iterable[tuple[Mine, list[str]]]) -> list[tuple[int, str]]:
        """Give a node records under their terms; the (record, term) for which it has no room."""
        refused: list[tuple[int, str]] = []
        by = self._state(node)
        key = self._publisher.public
        records = list(records)
        numbers = {one.body: one.id for one, _ in records}
        entries = [
            wire.Entry(Signed(key, one.body, one.signature), tuple(terms[at : at + wire.MAX_TERMS]))
            for one, terms in records
            if not one.removed
            for at in range(0, len(terms), wire.MAX_TERMS)
        ]
        for batch in wire.batches(by, entries):
            answer = await line.ask(batch)
            if isinstance(answer, wire.Kept):
                for term in {term for entry in batch.entries for term in entry.terms}:
                    self._say_full(node, term, term in answer.sharded)
                for entry, bits in zip(batch.entries, answer.refused, strict=False):
                    number = numbers[entry.signed.body]
                    refused += [(number, term) for n, term in enumerate(entry.terms) if bits >> n & 1]
        gone = [Signed(key, one.body, one.signature) for one, _ in records if one.removed]
        for at in range(0, len(gone), wire.MAX_ENTRIES):
            await line.ask(wire.Remove(by, tuple(gone[at : at + wire.MAX_ENTRIES])))
        self._own.heard(node, self._now())
        return refused

    def _state(self, node: str, digest: bytes = b"") -> wire.Statement:
        return wire.state(self._publisher.private, int(self._now()), self._net.peer_id, node, digest)

    async def _beat(self, node: str) -> None:
        """A heartbeat; then only what differs."""
        mine = self._own.at(node)
        if not mine:
            self._own.drop_node(node)
            return
        postings = [(term, identity, sequence) for term, _, identity, sequence in mine]
        buckets = await trio.to_thread.run_sync(wire.buckets_of, postings)
        try:
            async with open_line(self._net, node, _LINE) as line:
                answer = await line.ask(wire.Heartbeat(self._state(node, wire.digest_of(buckets))))
                if isinstance(answer, wire.Digest):
                    differ = {n for n in range(wire.BUCKETS) if answer.buckets[n] != buckets[n]}
                    for bucket, identities in _staying(mine, differ):
                        await line.ask(wire.Only(self._state(node), bucket, identities))
                    await self._send(line, node, self._grouped(mine, differ))
                    self._hear_full(node, answer.sharded)
        except P2PShareError as error:
            _log.debug("%s did not take a heartbeat: %s", node, error)
            self._later[node] = self._now() + _LATER

    def _grouped(self, mine: Iterable[_Standing], buckets: set[int]) -> Iterator[tuple[Mine, list[str]]]:
        """Records of these buckets, each with its terms."""
        found: dict[int, list[str]] = {}
        for term, number, identity, _ in mine:
            if wire.bucket_of(identity) in buckets:
                found.setdefault(number, []).append(term)
        for number, terms in found.items():
            if (record := self._own.record(number)) is not None:
                yield record, terms


def _places(one: Mine, nodes: list[str], before: tuple[str, ...]) -> list[str]:
    """Where a record is to be sent: what waits everywhere, a tombstone wherever it was, the rest where it is not."""
    if one.removed:
        return list(dict.fromkeys([*nodes, *before]))
    return nodes if one.placed == WAITING else [node for node in nodes if node not in before]


def _staying(mine: Iterable[_Standing], buckets: set[int]) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """(bucket, identities of what we have in it), for those that a message has room for."""
    found: dict[int, set[bytes]] = {bucket: set() for bucket in buckets}
    for _, _, identity, _ in mine:
        if (bucket := wire.bucket_of(identity)) in found:
            found[bucket].add(identity)
    yield from ((bucket, tuple(ids)) for bucket, ids in sorted(found.items()) if len(ids) <= wire.MAX_ENTRIES)
