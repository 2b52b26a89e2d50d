"""The routing table: whom we know, more of them near ourselves.

Bucket i holds peers that share exactly i bits with our own key; the last bucket holds all that share more, and is
split when it overflows. A peer enters only after it answered us as a server. It leaves only after it failed to
answer: at once when another waits for its place, else after MAX_FAILURES in a row. So neither a flood of strangers
nor a reply full of made-up peers can push out those that work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from .kad_churn import Lives
from .kad_keys import BITS, Contact, K, shared_bits, subnets

MAX_FAILURES = 3
MAX_WAITING = K
"""Replacements kept per bucket, the newest."""
PER_SUBNET_BUCKET = 2
PER_SUBNET_TABLE = 3
"""Peers of one subnet, as go-libp2p's diversity filter has it (peerdiversity: 2 per bucket, 3 in all)."""
REFRESH_AGE = 3600.0
CHECK_AGE = 900.0
"""Seconds without an answer after which a peer is asked again, when another waits for its place."""


@dataclass(slots=True)
class Entry:
    contact: Contact
    answered: float
    subnets: frozenset[str]
    failures: int = 0


@dataclass(slots=True)
class Bucket:
    entries: dict[str, Entry] = field(default_factory=dict)
    waiting: dict[str, Entry] = field(default_factory=dict)
    refreshed: float | None = None


class RoutingTable:
    """Pure: `now` is seconds on any clock that does not jump. At most 256 * k entries; in practice k * log2(n/k)."""

    def __init__(
        self,
        own: Contact,
        *,
        k: int = K,
        private_exempt: bool = False,
        subnets_of: Callable[[Iterable[str]], frozenset[str]] | None = None,
    ) -> None:
        self.own = own
        self.k = k
        self._subnets_of = subnets_of or partial(subnets, private_exempt=private_exempt)
        self.lives = Lives()
        self._buckets = [Bucket()]
        self._size = 0
        self._subnets: dict[str, int] = {}

    def __len__(self) -> int:
        return self._size

    def __contains__(self, peer_id: str) -> bool:
        return any(peer_id in bucket.entries for bucket in self._buckets)

    def __iter__(self) -> Iterator[Contact]:
        for bucket in self._buckets:
            for entry in bucket.entries.values():
                yield entry.contact

    @property
    def depth(self) -> int:
        """How many buckets there are."""
        return len(self._buckets)

    def answered(self, contact: Contact, now: float, *, seen_at: str | None = None) -> bool:
        """A server answered us. `seen_at` is the address it was reached at: unlike its own list it is no mere claim.

        Returns whether it is in the table now; if not, it may wait for a place.
        """
        if contact.key == self.own.key:
            return False
        bucket = self._bucket(contact.key)
        known = bucket.entries.get(contact.peer_id)
        if known is not None:
            if known.failures:
                self.lives.came_back((now - known.answered) / 2)
            else:
                self.lives.saw(now - known.answered, died=False)
            known.answered, known.failures = now, 0
            known.contact = contact if contact.addresses else known.contact
            return True
        addresses = (seen_at,) if seen_at is not None else contact.addresses
        entry = Entry(contact, now, self._subnets_of(addresses))
        if self._enter(entry):
            return True
        bucket = self._bucket(contact.key)
        bucket.waiting.pop(contact.peer_id, None)
        bucket.waiting[contact.peer_id] = entry
        if len(bucket.waiting) > MAX_WAITING:
            del bucket.waiting[next(iter(bucket.waiting))]
        return False

    def failed(self, peer_id: str, now: float | None = None) -> bool:
        """A peer did not answer. Returns whether it left the table."""
        for bucket in self._buckets:
            bucket.waiting.pop(peer_id, None)
            entry = bucket.entries.get(peer_id)
            if entry is None:
                continue
            entry.failures += 1
            if now is not None and entry.failures == 1:
                self.lives.saw((now - entry.answered) / 2, died=True)
            if entry.failures < MAX_FAILURES and not bucket.waiting:
                return False
            self._leave(bucket, entry)
            for waiting in reversed(list(bucket.waiting.values())):
                if self._enter(waiting):
                    bucket.waiting.pop(waiting.contact.peer_id, None)
                    break
            return True
        return False

    def remove(self, peer_id: str) -> None:
        """It told us that it is no server any more."""
        for bucket in self._buckets:
            bucket.waiting.pop(peer_id, None)
            entry = bucket.entries.get(peer_id)
            if entry is not None:
                self._leave(bucket, entry)

    def closest(self, key: int, count: int | None = None) -> list[Contact]:
        """The `count` (default k) nearest entries, nearest first. Those that failed last time come after the others."""
        count = self.k if count is None else count
        found: list[Entry] = []
        for group in self._groups(key):
            found.extend(sorted(group, key=lambda entry: entry.contact.key ^ key))
            if sum(1 for entry in found if not entry.failures) >= count:
                break
        found.sort(key=lambda entry: bool(entry.failures))  # stable
        return [entry.contact for entry in found[:count]]

    def _groups(self, key: int) -> Iterator[list[Entry]]:
        """Entries in groups of growing distance: key's own bucket, all deeper ones together, then towards bucket 0."""
        at = min(shared_bits(self.own.key, key), len(self._buckets) - 1)
        yield list(self._buckets[at].entries.values())
        yield [entry for bucket in self._buckets[at + 1 :] for entry in bucket.entries.values()]
        for bucket in reversed(self._buckets[:at]):
            yield list(bucket.entries.values())

    def to_check(self, now: float) -> list[Contact]:
        """Peers to ask whether they still live, because others wait for their place. At most one a bucket."""
        silent = []
        for bucket in self._buckets:
            if bucket.waiting and bucket.entries:
                oldest = min(bucket.entries.values(), key=lambda entry: entry.answered)
                if now - oldest.answered > CHECK_AGE:
                    silent.append(oldest.contact)
        return silent

    def stale(self, now: float, age: float | None = None) -> list[int]:
        """Numbers of the buckets that no lookup went through for `age` seconds, by default an hour, less where nodes
        live shorter."""
        age = self.lives.refresh_after(REFRESH_AGE) if age is None else age
        return [
            number
            for number, bucket in enumerate(self._buckets)
            if bucket.refreshed is None or now - bucket.refreshed >= age
        ]

    def looked_up(self, key: int, now: float) -> None:
        """A lookup of `key` was done: its bucket is fresh."""
        self._bucket(key).refreshed = now

    def save(self) -> list[tuple[str, tuple[str, ...]]]:
        """Plain data to begin with next time: (peer ID, addresses). They enter again only by answering."""
        return [(contact.peer_id, contact.addresses) for contact in self]

    def _bucket(self, key: int) -> Bucket:
        return self._buckets[min(shared_bits(self.own.key, key), len(self._buckets) - 1)]

    def _enter(self, entry: Entry) -> bool:
        if any(self._subnets.get(group, 0) >= PER_SUBNET_TABLE for group in entry.subnets):
            return False
        bucket = self._bucket(entry.contact.key)
        while len(bucket.entries) >= self.k:
            if bucket is not self._buckets[-1] or len(self._buckets) == BITS:
                return False
            self._split()
            bucket = self._bucket(entry.contact.key)
        for group in entry.subnets:
            if sum(group in other.subnets for other in bucket.entries.values()) >= PER_SUBNET_BUCKET:
                return False
        bucket.entries[entry.contact.peer_id] = entry
        bucket.waiting.pop(entry.contact.peer_id, None)
        self._size += 1
        for group in entry.subnets:
            self._subnets[group] = self._subnets.get(group, 0) + 1
        return True

    def _leave(self, bucket: Bucket, entry: Entry) -> None:
        del bucket.entries[entry.contact.peer_id]
        self._size -= 1
        for group in entry.subnets:
            self._subnets[group] -= 1
            if not self._subnets[group]:
                del self._subnets[group]

    def _split(self) -> None:
        old, number = self._buckets[-1], len(self._buckets) - 1
        new = Bucket(refreshed=old.refreshed)
        for source, target in ((old.entries, new.entries), (old.waiting, new.waiting)):
            for peer_id, entry in list(source.items()):
                if shared_bits(self.own.key, entry.contact.key) > number:
                    target[peer_id] = source.pop(peer_id)
        self._buckets.append(new)


def restore(rows: Iterable[tuple[str, Iterable[str]]]) -> list[tuple[str, tuple[str, ...]]]:
    """What `save` gave, cleaned: at most 1000 peers of at most 16 addresses. They are asked, not believed."""
    return [(str(peer_id), tuple(map(str, addresses))[:16]) for peer_id, addresses in list(rows)[:1000]]
