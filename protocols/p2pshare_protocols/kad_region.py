"""How big the network is, and how far from a key its records stand.

The i-th nearest of N nodes lies on average i / (N + 1) of the key space away. Least squares over the k nearest gives
N. A single lookup errs by about 1/sqrt(k), and one whose surroundings an attacker filled with made-up nodes sees a
network far too large; the median over lookups of unlike keys does not follow him.

A record stands at every server whose distance is under the region's bound, the distance within which k nodes are
expected, and at k in any case: an attacker who makes up 20 nodes nearer than all honest ones no longer hides it
(SR-DHT-Store, arXiv 2505.01139). So that he does not make every store as dear as he likes either, the region is cut
into shells, each half as far away as the one before, and of each at most so many take part as an honest network has
there but once in 200 times. Who of a shell that is too full is drawn by the asker's own secret, so that nobody can
make nodes that are always drawn.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import TypeVar

from .kad_keys import BITS, K

_SPACE = 1 << BITS
CAPS = (18, 11, 7, 5, 5)
"""Of the shells from the outermost inwards, where 10, 5, 2.5, 1.25 and, in all that is left, 1.25 nodes are expected:
Poisson's 99.5th percentiles. Right for k = 20."""
STORE_WITHIN = 1.5
"""Of the region's bound: who is nearer when it is asked gets the record with the question. Where fewer than 20 stand
under the bound, the 20th nearest is nearer than this in 19 of 20 cases."""
_KEPT = 32

T = TypeVar("T")


def estimate(distances: Sequence[int]) -> float | None:
    """Nodes in the network, from the ascending distances of a lookup's nearest. None when fewer than 5 are given."""
    if len(distances) < 5:
        return None
    weighed = sum(place * distance for place, distance in enumerate(distances, 1))
    if weighed == 0:
        return None
    squares = sum(place * place for place in range(1, len(distances) + 1))
    return max(float(len(distances)), squares * _SPACE / weighed - 1)


def bound(size: float | None, k: int = K) -> int:
    """The distance from a key under which k nodes of a network of `size` are expected; 0 when the size is unknown."""
    if size is None or size <= 0:
        return 0
    return min(_SPACE, int(_SPACE * (k / (size + 1))))


def shell(distance: int, bound: int) -> int:
    """In which shell of the region a distance under `bound` lies, 0 the outermost."""
    return min(len(CAPS) - 1, (bound // (distance + 1)).bit_length() - 1)


def window(
    nearest_first: Iterable[tuple[int, T]], bound: int, k: int = K, *, salt: bytes = b""
) -> Iterator[tuple[int, T]]:
    """Those of (distance, what stands there) that belong to the region: under the bound as far as the caps allow.

    When these are fewer than `k`, the next ones too. Reads no further than it must.
    """
    count = 0
    shells: list[list[tuple[int, T]]] = [[] for _ in CAPS]
    inside = bound > 0
    for candidate in nearest_first:
        if inside and candidate[0] < bound:
            shells[shell(candidate[0], bound)].append(candidate)
            continue
        if inside:
            inside = False
            for member in _drawn(shells, salt):
                count += 1
                yield member
        if count >= k:
            return
        count += 1
        yield candidate
    if inside:
        yield from _drawn(shells, salt)


def _drawn(shells: list[list[tuple[int, T]]], salt: bytes) -> Iterator[tuple[int, T]]:
    """Of each shell as many as its cap allows, nearest first."""
    for members, cap in zip(reversed(shells), reversed(CAPS), strict=True):
        if len(members) > cap:
            ranked = sorted((_rank(distance, salt), distance) for distance, _ in members)
            drawn = {distance for _, distance in ranked[:cap]}
            yield from (member for member in members if member[0] in drawn)
        else:
            yield from members


def _rank(distance: int, salt: bytes) -> bytes:
    return hashlib.blake2b(distance.to_bytes(32, "big"), key=salt, digest_size=8).digest()


class SizeEstimate:
    """The median of the estimates of the last 32 lookups of unlike targets: asking often for a key that is under
    attack counts once."""

    def __init__(self) -> None:
        self._estimates: OrderedDict[int, float] = OrderedDict()

    def add(self, target: int, distances: Sequence[int]) -> None:
        found = estimate(distances)
        if found is None:
            return
        self._estimates[target] = found
        self._estimates.move_to_end(target)
        if len(self._estimates) > _KEPT:
            self._estimates.popitem(last=False)

    @property
    def size(self) -> float | None:
        """Nodes, or None before three lookups gave an estimate."""
        return median(self._estimates.values()) if len(self._estimates) >= 3 else None
