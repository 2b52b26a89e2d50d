"""A virtual keyword index: placing, room, overflows, shards and asking with the daemon's pure code, signatures aside.

All servers of a list get the same postings in the same order, so one list stands for what each of them keeps.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from heapq import nsmallest

from p2pshare_protocols import postings_shard
from p2pshare_protocols.index_postings import MAX_TERMS
from p2pshare_protocols.item_record import OVERFLOW, ItemRecord, overflow, term_key
from p2pshare_protocols.kad_keys import key_of
from p2pshare_protocols.kad_region import bound, window
from p2pshare_protocols.postings_ask import ENOUGH, Draw, Named, Pointer, pointers
from p2pshare_protocols.postings_place import keepers
from p2pshare_protocols.postings_room import PER_PUBLISHER, ROOM, Origin, TermRoom


@dataclass(frozen=True, slots=True)
class Row:
    """A record with who placed it; `words` are its terms."""

    record: ItemRecord
    origin: Origin
    words: frozenset[str]


class List:
    """What a server keeps under one term, as p2pshare/store/postings.py does it."""

    def __init__(self, room: int = ROOM, *, own: bool = False) -> None:
        self.room = TermRoom(room=room, own=own)
        self._most = room
        self._own = own
        self.rows: dict[Origin, list[tuple[int, Row]]] = defaultdict(list)
        self._serial = 0

    def put(self, row: Row) -> bool:
        verdict = self.room.weigh(row.origin)
        if not verdict.taken:
            return False
        if verdict.evict is not None:
            self.rows[verdict.evict].pop()
            self.room.count(verdict.evict, -1)
        self._serial += 1
        self.rows[row.origin].append((self._serial, row))
        self.room.count(row.origin, 1)
        return True

    @property
    def full(self) -> bool:
        return not self._own and self.room.total >= self._most

    def find(
        self, also: Iterable[str], limit: int, head: int = postings_shard.HEAD, *, drawn: bool = False
    ) -> list[Row]:
        """The subnets take turns, and in each the oldest come first; or, `drawn`, in an order that nobody chooses."""
        wanted = frozenset(also)
        by_net: dict[str, list[tuple[int, Row]]] = defaultdict(list)
        for origin, rows in self.rows.items():
            by_net[origin.small] += [one for one in rows if wanted <= one[1].words]
        turns: list[tuple[int, int, Row]] = []
        for net, rows in by_net.items():
            rows.sort(key=lambda one: one[0])
            if drawn:
                place = int.from_bytes(sha256(net.encode()).digest()[:6], "big")
                rows[:] = [(place, row) for _, row in rows]
            turns += [(turn, serial, row) for turn, (serial, row) in enumerate(rows)]
        return [row for _, _, row in nsmallest(min(limit, head), turns, key=lambda one: one[:2])]


@dataclass
class Index:
    """Servers with `nodes` as keys and their postings. `subnet`: the /24 of a node."""

    nodes: Sequence[int]
    seed: int = 1
    room: int = ROOM
    subnet: Callable[[int], str] = str
    since: Callable[[bytes], int] = lambda publisher: 1
    """When a publisher was first heard of."""
    lists: dict[str, List] = field(default_factory=dict)
    asked: Counter[int] = field(default_factory=Counter)
    under: Counter[tuple[bytes, str]] = field(default_factory=Counter)  # what a publisher has placed under a word
    words: list[tuple[str, Row]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.servers = lru_cache(None)(self._servers)

    def _servers(self, term: str) -> list[int]:
        place = key_of(term_key(term))
        near = [(node ^ place, node) for node in nsmallest(60, self.nodes, key=lambda node: node ^ place)]
        found = [place ^ one for one in sorted(one for one, _ in window(near, bound(len(self.nodes))))]
        return keepers(found, lambda node: node ^ place, float(len(self.nodes)), self.subnet)

    def publish(self, row: Row) -> None:
        """Under all its words; what is more than a publisher may have goes to its overflow. Shards: `sweep`."""
        for term in row.record.terms()[:MAX_TERMS]:
            self.under[row.origin.publisher, term] += 1
            if self.under[row.origin.publisher, term] > PER_PUBLISHER:
                self._put(overflow(term, row.origin.publisher), row)
            else:
                self._put(term, row)
                self.words.append((term, row))

    def _put(self, term: str, row: Row) -> bool:
        if term not in self.lists:
            self.lists[term] = List(self.room, own=term.startswith(OVERFLOW))
        return self.lists[term].put(row)

    def sweep(self) -> None:
        """Publishers hear which lists are full, and place what is under them in the next shard too."""
        todo = self.words
        while todo:
            further = []
            for at, row in todo:
                if self.lists[at].full:
                    beyond = postings_shard.next_list(row.record.terms(), at, row.record.cid)
                    if beyond is not None:
                        self._put(beyond, row)
                        further.append((beyond, row))
            todo = further

    def ask(self, words: Sequence[str], limit: int) -> list[Row]:
        """As the DHT's tier asks, everybody honest and up: whose answers are equal, so that one stands for all."""
        found: dict[int, Row] = {}
        rarest = min(words, key=lambda word: (self.lists[word].room.total if word in self.lists else 0, word))
        full = self._ask(rarest, words, rarest, limit, found)
        if full:
            for child in postings_shard.children(rarest):
                if child in self.lists:
                    self._ask(child, words, rarest, limit, found)
        beyond = self.lists[rarest].room.full() if rarest in self.lists else []
        named = [Pointer(rarest, (Named(one, self.since(one)),)) for one in beyond]
        for pointer in pointers(named, 1.0 * (1 << 62)):
            self._ask(overflow(rarest, pointer.publisher), words, rarest, limit, found)
        return list(found.values())

    def _ask(self, term: str, words: Sequence[str], word: str, limit: int, found: dict[int, Row]) -> bool:
        servers = list(self.servers(term))
        self.rng.shuffle(servers)
        draw = Draw(servers, self.subnet)
        self.asked.update(draw.first())
        here = self.lists.get(term)
        if here is not None:
            found.update((id(row), row) for row in here.find(set(words) - {word}, limit))
        self.asked.update(draw.more())
        return here is not None and postings_shard.agreed(ENOUGH * here.full, ENOUGH)

    def stored(self) -> Counter[int]:
        """Postings at each server."""
        found: Counter[int] = Counter()
        for term, one in self.lists.items():
            found.update(dict.fromkeys(self.servers(term), one.room.total))
        return found
