"""One word's room at full size, 20,000 postings, under spam of 100,000: who keeps how much."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from p2pshare_protocols.postings_room import ROOM, SMALL_NET, Origin, TermRoom

SPAM, IDENTITIES = 100_000, 1000


def spam(subnets: int) -> Iterator[Origin]:
    for number in range(SPAM):
        name = f"spam{number % subnets}"
        yield Origin(b"spam%d" % (number % IDENTITIES), name, name)


def honest(subnets: int, each: int) -> Iterator[Origin]:
    for number in range(subnets * each):
        name = f"honest{number % subnets}"
        yield Origin(name.encode(), name, name)


def offered(order: list[Origin]) -> dict[str, int]:
    """What of each subnet stands there in the end."""
    room = TermRoom()
    for origin in order:
        verdict = room.weigh(origin)
        if verdict.evict is not None:
            room.count(verdict.evict, -1)
        if verdict.taken:
            room.count(origin, 1)
    assert room.total <= ROOM
    kept: dict[str, int] = {}
    for origin, count in room.counts().items():
        kept[origin.small] = kept.get(origin.small, 0) + count
    return kept


def orders(bad: list[Origin], good: list[Origin]) -> Iterator[list[Origin]]:
    yield bad + good
    yield good + bad
    mixed = bad + good
    random.Random(1).shuffle(mixed)
    yield mixed


def test_one_subnet_with_1000_identities_gets_5_percent_and_costs_the_honest_nothing() -> None:
    for order in orders(list(spam(1)), list(honest(300, 50))):
        kept = offered(order)
        assert kept.pop("spam0") <= SMALL_NET * ROOM
        assert sum(kept.values()) == 300 * 50


# 12,000 honest postings in 200 subnets, 15,000 in 600, 6,000 in 60: all fit the room.
@pytest.mark.parametrize(("subnets", "each"), [(200, 60), (600, 25), (60, 100)])
def test_50_subnets_take_next_to_nothing_from_honest_postings_that_fit_the_room(subnets: int, each: int) -> None:
    for order in orders(list(spam(50)), list(honest(subnets, each))):
        kept = offered(order)
        good = sum(count for name, count in kept.items() if name.startswith("honest"))
        # Within quota is what a subnet has up to its max-min share of the room.
        share = min(each, ROOM / (subnets + 50))
        assert good >= 0.8 * subnets * share
        assert good >= 0.8 * subnets * each or share < each
        assert max(count for name, count in kept.items() if name.startswith("spam")) <= SMALL_NET * ROOM
