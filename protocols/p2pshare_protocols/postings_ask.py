"""Whom a search asks: 3 of a term's 8 servers first, 5 in 4 subnets in the end; and whose overflows it looks into.

Pure decisions; what is drawn at random is drawn by the caller. The rule is protocols/index.md, "Asking".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Generic, NamedTuple, TypeVar

from .postings_place import REPLICAS

FIRST: Final = 3  # servers that are asked at once
ENOUGH: Final = 5  # that answer in the end: of 8 with 3 liars who agree two at least are honest, whatever is drawn
CROWDED_ENOUGH: Final = 8  # the same of the 24 of a region that somebody crowds: half of them may be his
SUBNETS: Final = 4  # in which these are at least, where there are so many
FEW: Final = 20  # records; when as many came from the first, the others only confirm them
POINTERS: Final = 4  # publishers whose overflow is looked into
POINTERS_ALL: Final = 8  # the same when everything is asked for

T = TypeVar("T")


class Draw(Generic[T]):
    """Which of a term's servers to ask now. `shuffled`: all of them in a random order; `subnet` of one, "" for none.

    A server whose subnet is not known counts as a subnet of its own.
    """

    def __init__(self, shuffled: Sequence[T], subnet: Callable[[T], str]) -> None:
        self._left = [(one, subnet(one) or f"?{number}") for number, one in enumerate(shuffled)]
        self._subnets = dict(self._left)
        self._enough = CROWDED_ENOUGH if len(shuffled) > REPLICAS else ENOUGH
        self._asked: dict[T, str] = {}  # those that were asked and did not fail, and their subnets
        self.answered = 0

    def first(self, count: int = FIRST) -> list[T]:
        """The first 3, each in a subnet of its own as far as there are so many."""
        return self._take(count)

    def more(self) -> list[T]:
        """Who is to be asked too, so that 5 in 4 subnets answer when nobody fails. [] when enough are under way."""
        return self._take(max(self._enough - len(self._asked), 0)) + self._widen()

    def heard(self, one: T) -> None:
        self.answered += 1
        self._asked[one] = self._subnets[one]

    def failed(self, one: T) -> None:
        """It does not answer, or not soon: another one takes its place. When it is heard later, it counts again."""
        self._asked.pop(one, None)

    def _take(self, count: int) -> list[T]:
        taken: list[T] = []
        while self._left and len(taken) < count:
            having = set(self._asked.values())
            fresh = (n for n, (_, where) in enumerate(self._left) if where not in having)
            one, where = self._left.pop(next(fresh, 0))
            self._asked[one] = where
            taken.append(one)
        return taken

    def _widen(self) -> list[T]:
        wider: list[T] = []
        while len(having := set(self._asked.values())) < SUBNETS and any(one[1] not in having for one in self._left):
            wider += self._take(1)
        return wider


class Named(NamedTuple):
    """What a storing node says of a publisher that has more than it may under a term: a hint.

    `since`: unix seconds when it was first heard of there; `proven`: it was seen there to hold something of it.
    """

    publisher: bytes
    since: int = 0
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Pointer:
    """A publisher's overflow under `term`, as all nodes that named it say together."""

    term: str
    named: tuple[Named, ...]

    @property
    def publisher(self) -> bytes:
        return self.named[0].publisher


def pointers(
    found: Iterable[Pointer],
    now: float,
    trusted: Callable[[bytes], bool] = lambda _: False,
    *,
    everything: bool = False,
) -> list[Pointer]:
    """Whose overflows to look into: those I trust, then the proven, then the longest known; never the largest.

    Proof and age are the median of what nodes say, so that one liar lifts nobody; a `since` in the future is none.
    """

    def weight(one: Pointer) -> tuple[bool, bool, float, bytes]:
        proven = sum(node.proven for node in one.named) * 2 > len(one.named)
        since = median(min(node.since or now, now) for node in one.named)
        return not trusted(one.publisher), not proven, since, one.publisher

    return sorted(found, key=weight)[: POINTERS_ALL if everything else POINTERS]
