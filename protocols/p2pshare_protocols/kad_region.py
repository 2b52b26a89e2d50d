"""How big the network is, and how far from a key its records stand.

The i-th nearest of N nodes lies on average i / (N + 1) of the key space away. Least squares over the k nearest gives
N. A single lookup errs by about 1/sqrt(k), and one whose surroundings an attacker filled with made-up nodes sees a
network far too large; the median over lookups of unlike keys does not follow him.

A record stands at every server whose distance is under the region's bound, the distance within which k nodes are
expected, as well as at the k nearest: an attacker who makes up 20 nodes nearer than all honest ones no longer hides
it (SR-DHT-Store, arXiv 2505.01139).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from .kad_keys import BITS, K

_SPACE = 1 << BITS


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


class SizeEstimate:
    """The median of the estimates of the last 32 lookups."""

    def __init__(self) -> None:
        self._estimates: deque[float] = deque(maxlen=32)

    def add(self, distances: Sequence[int]) -> None:
        found = estimate(distances)
        if found is not None:
            self._estimates.append(found)

    @property
    def size(self) -> float | None:
        """Nodes, or None before three lookups gave an estimate."""
        return median(self._estimates) if len(self._estimates) >= 3 else None
