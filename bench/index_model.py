"""Postings of many items on many nodes as arrays: where they stand, what a search finds, who is asked how often.

The rules are those of protocols/index.md. tests/simulation/virtual_index.py does the same with the daemon's own code;
a test holds the two against each other. What is left out here: bounds of a /24 (every publisher counts as a subnet).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bench.index_names import Ints, Named
from p2pshare_protocols import postings_shard
from p2pshare_protocols.item_record import overflow, term_key
from p2pshare_protocols.kad_keys import K, key_of
from p2pshare_protocols.kad_region import CAPS
from p2pshare_protocols.postings_ask import POINTERS
from p2pshare_protocols.postings_place import CROWDED, EXPECTED, NEAR, REPLICAS
from p2pshare_protocols.postings_room import PER_PUBLISHER, ROOM
from p2pshare_protocols.postings_shard import HEAD

REGION = sum(CAPS)  # nodes of a region, at most
Keys = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]


def place(term: str) -> int:
    """The first 64 bits of where a term's postings belong: more than enough to tell who is nearest."""
    return key_of(term_key(term)) >> 192


def nearest(keys: Keys, nodes: Keys, count: int = REPLICAS) -> Ints:
    """For each key the indices of the `count` nodes that are nearest by exclusive or."""
    order = np.argsort(nodes)
    ordered = nodes[order]
    found = np.empty((len(keys), count), np.int32)
    bits = max(0, int(np.log2(max(1, len(nodes) / (4 * count)))))
    todo = np.arange(len(keys))
    while len(todo):
        shift = np.uint64(64 - bits)
        prefix = keys[todo] >> shift if bits else np.zeros(len(todo), np.uint64)
        by = np.argsort(prefix, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(prefix[by]) > 0])
        again = []
        for low, high in zip(starts, np.r_[starts[1:], len(by)], strict=True):
            mine = todo[by[low:high]]
            first = np.uint64(int(prefix[by[low]]) << (64 - bits) if bits else 0)
            last = np.uint64(int(first) + (1 << (64 - bits)) - 1)
            a, b = np.searchsorted(ordered, first), np.searchsorted(ordered, last, "right")
            if b - a < min(count, len(nodes)):
                again.append(mine)
                continue
            for at in range(0, len(mine), 4096):
                some = mine[at : at + 4096]
                distances = keys[some][:, None] ^ ordered[a:b][None, :]
                found[some] = order[a + np.argpartition(distances, count - 1, axis=1)[:, :count]]
        todo = np.concatenate(again) if again else todo[:0]
        bits -= 1
    return found


def keepers(keys: Keys, nodes: Keys) -> Ints:
    """For each key up to 24 nodes that keep its list, as `postings_place.keepers` has it; -1 where there are fewer.

    One key in twenty has the 8th nearest so near that its region is taken as surrounded, though nobody attacks.
    """
    size = len(nodes)
    found = np.full((len(keys), CROWDED), -1, np.int32)
    near = nearest(keys, nodes, min(REPLICAS, size))
    found[:, : near.shape[1]] = near
    farthest = (keys[:, None] ^ nodes[near]).max(axis=1)
    crowded = np.flatnonzero(farthest.astype(np.float64) * size < EXPECTED * 2.0**64) if size > REPLICAS else []
    if not len(crowded):
        return found
    region = nearest(keys[crowded], nodes, min(REGION, size))
    distances = keys[crowded][:, None] ^ nodes[region]
    order = np.argsort(distances, axis=1)
    inside = (distances.astype(np.float64) < K / (size + 1) * 2.0**64).sum(axis=1)
    for at, key in enumerate(crowded):
        mine = region[at][order[at]][: max(int(inside[at]), K)]
        drawn = np.r_[mine[:NEAR], mine[NEAR:][::-1][: CROWDED - NEAR]]
        found[key] = -1
        found[key, : len(drawn)] = drawn
    return found


@dataclass(slots=True)
class Found:
    """What one query came to: items that match, those of them that were told, and the lists that were asked for."""

    matches: Ints
    told: Ints
    asked: list[str]


@dataclass
class Model:
    names: Sequence[Named]
    publishers: Ints
    room: int = ROOM
    head: int = HEAD
    forgets: bool = True
    """As built, a full list no longer names publishers that were pushed below 250 there: their overflow is lost."""
    terms: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words: list[str] = []
        of_items: list[int] = []
        lengths = []
        number = self.terms.setdefault
        for named in self.names:
            cut = named.terms()
            lengths.append(len(cut))
            of_items += [number(term, len(self.terms)) for term in cut]
        words = list(self.terms)
        self.words = words
        by_term = np.array(of_items, np.int32)
        del of_items
        items = np.repeat(np.arange(len(self.names), dtype=np.int32), lengths)
        order = np.argsort(by_term, kind="stable")
        self.items = items[order]  # of all postings, those of a term side by side in the order they came
        sorted_terms = by_term[order]
        self.starts = np.searchsorted(sorted_terms, np.arange(len(words) + 1))
        del by_term, items, order
        self.rank = _rank_in_group(sorted_terms, self.publishers[self.items], int(self.publishers.max()) + 1)
        self.beyond = self.rank >= PER_PUBLISHER
        self.counts = np.bincount(sorted_terms[~self.beyond], minlength=len(words))
        self.full = np.flatnonzero(self.counts >= self.room)
        self._lists(sorted_terms)

    def _lists(self, sorted_terms: Ints) -> None:
        """Every list with its length: words, overflows, shards; which postings stand in the head of a full list."""
        self.lists: dict[str, int] = dict(zip(self.words, np.minimum(self.counts, self.room).tolist(), strict=True))
        many = np.flatnonzero(self.beyond)
        pairs = sorted_terms[many].astype(np.int64) << 32 | self.publishers[self.items[many]]
        self.overflows: dict[tuple[int, int], int] = {}
        for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
            term, publisher = int(pair) >> 32, int(pair) & 0xFFFFFFFF
            self.overflows[term, publisher] = min(int(count), self.room)
            self.lists[overflow(self.words[term], publisher_key(publisher))] = min(int(count), self.room)
        self.in_head = ~self.beyond
        self.named = self.in_head if self.forgets else ~self.beyond  # a publisher's 250th stands for its pointer
        self.shard = np.full(len(self.items), -1, np.int8)  # in which of its word's 16 shards a posting stands
        for term in self.full.tolist():
            self._part(term)

    def _part(self, term: int) -> None:
        low, high = self.starts[term], self.starts[term + 1]
        here = np.arange(low, high)[~self.beyond[low:high]]
        self.in_head[here] = False
        self.in_head[self._fair(here)] = True
        todo = [("", here)]
        while todo:
            prefix, members = todo.pop()
            if prefix:
                kept = self._fair(members)
                if len(prefix) == 1:
                    self.shard[kept] = int(prefix, 16)
                self.lists[postings_shard.shard(self.words[term], prefix)] = len(kept)
            if len(members) >= self.room and len(prefix) < postings_shard.LEVELS:
                digits = (self.places[self.items[members]] >> (8 - 4 * len(prefix))) & 15
                todo += [(prefix + f"{digit:x}", members[digits == digit]) for digit in range(16)]

    def _fair(self, members: Ints) -> Ints:
        """Max-min by publisher: when there is no room, the newest of who has the most goes."""
        if len(members) <= self.room:
            return members
        return np.sort(members[np.lexsort((members, self.rank[members]))[: self.room]])

    @cached_property
    def places(self) -> Ints:
        """The first three hexadecimal digits of each CID's place."""
        return np.array([int(postings_shard.prefix_of(one.cid, 3), 16) for one in self.names], np.int32)

    @cached_property
    def keys(self) -> tuple[dict[str, int], Keys]:
        return {name: at for at, name in enumerate(self.lists)}, np.array([place(one) for one in self.lists], np.uint64)

    def stored(self, keepers: Ints, nodes: int) -> Longs:
        """Postings that each node keeps."""
        lengths = np.fromiter(self.lists.values(), np.int64, len(self.lists))
        placed = np.bincount(keepers.ravel() + 1, np.repeat(lengths, keepers.shape[1]), nodes + 1)
        return placed[1:].astype(np.int64)

    def ask(self, words: Sequence[str], limit: int, *, pointers: int = POINTERS, head_first: int = 0) -> Found:
        """A search for items with all `words`. With `head_first`: no shards when the word's list gave so many rows."""
        numbers = sorted((self.terms[word] for word in words), key=lambda one: (self.lists[self.words[one]], one))
        rarest = numbers[0]
        low, high = self.starts[rarest], self.starts[rarest + 1]
        rows = np.arange(low, high)
        for other in numbers[1:]:
            theirs = self.items[self.starts[other] : self.starts[other + 1]]
            at = np.minimum(np.searchsorted(theirs, self.items[rows]), len(theirs) - 1)
            rows = rows[theirs[at] == self.items[rows]]
        word = self.words[rarest]
        told = [self._told(rows[self.in_head[rows]], limit)]
        asked = [word]
        if self.counts[rarest] >= self.room and not (head_first and len(told[0]) >= head_first):
            of_rows = self.shard[rows]
            for digit in range(16):
                told.append(self._told(rows[of_rows == digit], limit))
                asked.append(postings_shard.shard(word, f"{digit:x}"))
        named = self.publishers[self.items[low:high][(self.rank[low:high] == PER_PUBLISHER - 1) & self.named[low:high]]]
        for publisher in sorted(set(named.tolist()), key=age)[:pointers]:
            mine = rows[self.beyond[rows] & (self.publishers[self.items[rows]] == publisher)]
            mine = mine[self.rank[mine] < PER_PUBLISHER + self.room]
            told.append(self.items[mine[:limit]])
            asked.append(overflow(word, publisher_key(publisher)))
        return Found(self.items[rows], np.unique(np.concatenate(told)), asked)

    def _told(self, rows: Ints, limit: int) -> Ints:
        """The items of an answer: publishers (as subnets) take turns, the oldest first."""
        if len(rows) > min(limit, self.head):
            turn = _rank_in_group(np.zeros(len(rows), np.int32), self.publishers[self.items[rows]], 1 << 31)
            rows = rows[np.lexsort((rows, turn))[: min(limit, self.head)]]
        return self.items[rows]


def publisher_key(number: int) -> bytes:
    return hashlib.sha256(b"publisher %d" % number).digest()


def age(number: int) -> int:
    """Since when a publisher is known, which has nothing to do with its size."""
    return int.from_bytes(hashlib.sha256(b"age %d" % number).digest()[:6], "big")


def _rank_in_group(first: Ints, second: Ints, many: int) -> Ints:
    """For each element how many of the same (first, second) stand before it."""
    key = first.astype(np.int64) * many + second
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.empty(len(key), np.int32)
    rank[order] = np.arange(len(key)) - np.repeat(begins, np.diff(np.r_[begins, len(key)]))
    return rank


def node_keys(count: int, seed: int) -> list[int]:
    """256-bit keys of nodes."""
    return [key_of(b"node %d %d" % (seed, number)) for number in range(count)]


def high_bits(keys: Iterable[int]) -> Keys:
    return np.array([key >> 192 for key in keys], np.uint64)
