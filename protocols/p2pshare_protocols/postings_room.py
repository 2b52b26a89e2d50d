"""How the room of one word at one node is shared: bounds, and max-min fair eviction by subnet, then by publisher.

Pure counts; the rows themselves are the store's. The rule is protocols/index.md, "Room".
"""

from __future__ import annotations

import heapq
import ipaddress
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

K = TypeVar("K")
ROOM: Final = 20_000  # postings of one term at one node
PER_PUBLISHER: Final = 250  # of one publisher under one term
SMALL_NET: Final = 0.05  # share of a term's room that one /24 (IPv6 /48) may have
LARGE_NET: Final = 0.15  # the same for one /16 (IPv6 /32)
PER_NET: Final = 30_000  # postings of one /24 at one node, over all terms


class Origin(NamedTuple):
    """Who placed a posting: the publisher, and the subnets of the node that brought it ("" where none counts)."""

    publisher: bytes
    small: str
    large: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`taken`: there is room. With `evict`, for it the newest posting of that origin must go first."""

    taken: bool
    evict: Origin | None = None


def subnets(address: str) -> tuple[str, str]:
    """(/24, /16) of an IPv4 address, (/48, /32) of an IPv6 one; ("", "") for an address that is none or private."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "", ""
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    if ip.is_private:
        return "", ""
    small, large = (24, 16) if ip.version == 4 else (48, 32)
    network = ipaddress.ip_network
    return str(network((ip, small), strict=False)), str(network((ip, large), strict=False))


class TermRoom:
    """The room of one term. `rows` are the postings that are there: (origin, how many)."""

    def __init__(self, rows: Iterable[tuple[Origin, int]] = (), *, room: int = ROOM, own: bool = False) -> None:
        """`own`: the term is one publisher's overflow, which nobody else can fill."""
        self._room = room
        self._own = own
        self._by: Counter[Origin] = Counter()
        self._publishers: Counter[bytes] = Counter()
        self._small: Counter[str] = Counter()
        self._large: Counter[str] = Counter()
        self._there: defaultdict[str, dict[Origin, int]] = defaultdict(dict)  # of a small net its origins
        self._heap: list[tuple[int, str]] = []  # (-postings, small net), some of them of before; [] until it is full
        self.total = 0
        for origin, count in rows:
            self.count(origin, count)

    def _add(self, origin: Origin, count: int) -> None:
        self.total += count
        _add(self._publishers, origin.publisher, count)
        _add(self._small, origin.small, count)
        _add(self._large, origin.large, count)
        if self._heap:
            heapq.heappush(self._heap, (-self._small[origin.small], origin.small))

    @property
    def origins(self) -> int:
        return len(self._by)

    def counts(self) -> dict[Origin, int]:
        return dict(self._by)

    def full(self) -> list[bytes]:
        """Publishers that have as many as one may have: they may have more in their overflow."""
        return [] if self._own else [one for one, count in self._publishers.items() if count >= PER_PUBLISHER]

    def weigh(self, origin: Origin) -> Verdict:
        """Whether one more posting of `origin` has room. Nothing is counted yet."""
        if self._own:
            return Verdict(self.total < self._room)
        if self._publishers[origin.publisher] >= PER_PUBLISHER:
            return Verdict(False)
        if origin.small and self._small[origin.small] >= self._room * SMALL_NET:
            return Verdict(False)
        if origin.large and self._large[origin.large] >= self._room * LARGE_NET:
            return Verdict(False)
        if self.total < self._room:
            return Verdict(True)
        return self._fair(origin)

    def _fair(self, origin: Origin) -> Verdict:
        """Max-min: the subnet with the most gives, in it the publisher with the most; who would be it, gets none."""
        small = self._most()
        if self._small[origin.small] + 1 >= self._small[small]:
            if origin.small != small:
                return Verdict(False)
            mine = self._by[origin]
            victim = self._largest(small)
            return Verdict(mine + 1 < self._by[victim], victim if mine + 1 < self._by[victim] else None)
        return Verdict(True, self._largest(small))

    def _most(self) -> str:
        """The small net with the most postings."""
        if not self._heap or len(self._heap) > 4 * len(self._small) + 64:
            self._heap = [(-count, small) for small, count in self._small.items()]
            heapq.heapify(self._heap)
        while self._small.get(self._heap[0][1], 0) != -self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][1]

    def _largest(self, small: str) -> Origin:
        there = self._there[small]
        return max(there, key=lambda one: there[one])

    def count(self, origin: Origin, change: int) -> None:
        """A posting came (1) or went (-1)."""
        _add(self._by, origin, change)
        there = self._there[origin.small]
        if origin in self._by:
            there[origin] = self._by[origin]
        else:
            there.pop(origin, None)
            if not there:
                del self._there[origin.small]
        self._add(origin, change)


def _add(counter: Counter[K], key: K, change: int) -> None:
    """Nothing is kept of who is gone."""
    counter[key] += change
    if counter[key] <= 0:
        del counter[key]
