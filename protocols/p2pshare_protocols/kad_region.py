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

from collections import OrderedDict
from collections.abc import Sequence
from statistics import median

from .kad_keys import BITS, K

_SPACE = 1 << BITS
CAPS = (18, 11, 7, 5, 5)
"""Of the shells from the outermost inwards, where 10, 5, 2.5, 1.25 and, in all that is left, 1.25 nodes are expected:
Poisson's 99.5th percentiles. Right for k = 20."""
_KEPT = 32


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
