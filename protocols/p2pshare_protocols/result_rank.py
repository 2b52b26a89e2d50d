"""Where a result stands among the others: six parts that a person can read, and what crowds the page.

Only what was checked or seen on this machine goes in; the order in which others told their rows does not.
docs/search.md, "Order, and why", is this rule in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Stand = Literal["mine", "trusted", "known", ""]

# What each part may give; they add up to 1. The match is worth most: a word in the name over one in the tags is 0.13 of
# two words, about what the step from no live source to many is worth.
SHARES: Final = {
    "match": 0.60,
    "sources": 0.15,
    "publisher": 0.10,
    "proof": 0.05,
    "publishers": 0.05,
    "fresh": 0.05,
}
STANDS: Final[dict[Stand, float]] = {"mine": 1.0, "trusted": 1.0, "known": 0.6, "": 0.0}
HALF_LIFE: Final = 365 * 86400.0  # seconds after which an item is half as fresh
PAGE: Final = 20  # rows
OF_A_SUBNET: Final = 2  # rows of a page whose publishers nobody vouches for
OF_A_BUNDLE: Final = 3  # versions of one name on a page
CROWDED: Final = 0.1  # what is left of the score of a row that is one too many


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a result. `match` from `query_rank.rank`, 0 to 1; `sources` that said they hold it; `publisher`:
    how it stands with us; `held`: its bytes are here, verified; `publishers` that are independent, which is: in
    subnets of their own; `age` in seconds, None when not known or in the future."""

    match: float
    sources: int = 0
    publisher: Stand = ""
    held: bool = False
    publishers: int = 1
    age: float | None = None


def parts(evidence: Evidence) -> dict[str, float]:
    """What each part gives; the sum is the score, from 0 to 1."""
    age = evidence.age
    grades = {
        "match": evidence.match,
        "sources": evidence.sources / (evidence.sources + 1),
        "publisher": STANDS[evidence.publisher],
        "proof": float(evidence.held),
        "publishers": 1 - 1 / max(1, evidence.publishers),
        "fresh": 0.0 if age is None or age < 0 else 0.5 ** (age / HALF_LIFE),
    }
    return {part: round(share * grades[part], 4) for part, share in SHARES.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """What of a row may crowd a page. `subnets`: those that its holders and publishers are in, () when somebody vouches
    for it or none is known; `bundle`: "" when it is no version of anything."""

    subnets: tuple[str, ...] = ()
    bundle: str = ""


def crowding(best_first: Sequence[Place]) -> list[int]:
    """The rows (their numbers) that are too many of a kind on their page, and make room for all others.

    A row counts for each of its subnets, and is too many when all of them have had theirs: what is held in two
    subnets is held by two that are independent. Each 20 rows that stay are a page.
    """
    moved = []
    subnets: Counter[str] = Counter()
    bundles: Counter[str] = Counter()
    stayed = 0
    for number, place in enumerate(best_first):
        if stayed == PAGE:
            stayed = 0
            subnets.clear()
            bundles.clear()
        if _full(place.subnets, subnets, OF_A_SUBNET) or _full((place.bundle,), bundles, OF_A_BUNDLE):
            moved.append(number)
            continue
        stayed += 1
        subnets.update(place.subnets)
        bundles[place.bundle] += 1
    return moved


def _full(kinds: Iterable[str], counts: Counter[str], most: int) -> bool:
    named = [kind for kind in kinds if kind]
    return bool(named) and all(counts[kind] >= most for kind in named)
