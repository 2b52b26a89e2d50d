"""At which of the servers near a term's key its postings stand, also when an attacker crowds in around the key.

The rule is protocols/index.md, "Placing". `found` is what a lookup gives: the DHT's region of the key, nearest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from .kad_keys import BITS

REPLICAS: Final = 8
CROWDED: Final = 24  # servers that keep a term in a region that is taken as surrounded
NEAR: Final = 4  # of them the nearest; the others from afar, where made-up nodes are no more than others
EXPECTED: Final = 4  # the 8th nearest is on average at 8/n of the key space; nearer than 4/n is too near

LONG: Final = 24 * 3600.0  # seconds after which a term's place is looked up again where servers live long
SHORT: Final = 12 * 3600.0  # and where they do not: more than a third of the keepers was gone at the last sweep
JUDGED: Final = 64  # keepers that are looked at before their life is judged
T = TypeVar("T")


class Life:
    """How long servers live, from what a sweep finds: when it is to be done again. `after` in seconds, from before."""

    def __init__(self, after: float = LONG) -> None:
        self.after = SHORT if after == SHORT else LONG
        self._there = self._before = 0

    def found(self, before: int, there: int) -> None:
        """Of `before` servers that kept a term at the last sweep `there` are still among those that are to keep it."""
        self._before += before
        self._there += there
        if self._before >= JUDGED:
            self.after = SHORT if 3 * (self._before - self._there) > self._before else LONG
            self._before //= 2  # what is older counts less
            self._there //= 2


def surrounded(distances: Sequence[int], size: float | None) -> bool:
    """Whether there are more servers near a key than a network of `size` has there; distances ascend."""
    if size is None or len(distances) < REPLICAS:
        return False
    return distances[REPLICAS - 1] * size < EXPECTED << BITS


def keepers(
    found: Sequence[T], distance: Callable[[T], int], size: float | None, subnet: Callable[[T], str] = lambda _: ""
) -> list[T]:
    """The 8 nearest; in a surrounded region 24, one a subnet ("" counts for none), most of them from its far side."""
    if not surrounded([distance(one) for one in found], size):
        return list(found[:REPLICAS])
    drawn: list[T] = list(found[:NEAR])
    seen = {subnet(one) for one in drawn}
    for one in reversed(found[NEAR:]):
        if len(drawn) == CROWDED:
            break
        where = subnet(one)
        if not where or where not in seen:
            drawn.append(one)
            seen.add(where)
    return drawn
