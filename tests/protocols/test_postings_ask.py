"""Whom a search asks, and whose overflows it follows: nothing that liars can bend."""

from __future__ import annotations

import itertools
import random

from p2pshare_protocols.postings_ask import ENOUGH, FIRST, POINTERS, POINTERS_ALL, Draw, Named, Pointer, pointers

NOW = 1_767_225_600.0


def asked(servers: list[tuple[int, str]], failing: frozenset[int] = frozenset()) -> list[tuple[int, str]]:
    """Who answered in the end."""
    draw = Draw(servers, lambda one: one[1])
    answered: list[tuple[int, str]] = []
    now = draw.first()
    assert len(now) == min(FIRST, len(servers))
    while now:
        for one in now:
            if one[0] in failing:
                draw.failed(one)
            else:
                draw.heard(one)
                answered.append(one)
        now = draw.more()
    assert draw.answered == len(answered)
    return answered


def test_five_in_four_subnets_are_asked_where_there_are_so_many() -> None:
    rng = random.Random(1)
    for _ in range(500):
        servers = [(n, f"net{rng.randrange(5)}") for n in range(8)]
        there = len({where for _, where in servers})
        failing = frozenset(n for n in range(8) if rng.random() < 0.2)
        answered = asked(servers, failing)
        alive = [one for one in servers if one[0] not in failing]
        assert len(answered) >= min(ENOUGH, len(alive))
        assert len(set(answered)) == len(answered)
        assert len({where for _, where in answered}) >= min(4, len({where for _, where in alive}))
        if there >= 4 and not failing:
            assert len(answered) == ENOUGH


def test_servers_without_a_subnet_count_each() -> None:
    assert len(asked([(n, "") for n in range(8)])) == ENOUGH
    assert len(asked([(n, "one") for n in range(8)])) == ENOUGH
    assert len(asked([(0, "")])) == 1
    assert asked([]) == []


def test_of_three_liars_who_agree_two_honest_ones_are_heard_whatever_is_drawn() -> None:
    for liars in itertools.combinations(range(8), 3):
        order = sorted(range(8), key=lambda n: n not in liars)
        assert sum(one not in liars for one, _ in asked([(n, f"net{n}") for n in order])) >= 2


def key(number: int) -> bytes:
    return bytes([number]) * 32


def test_trust_then_proof_then_age_choose_whose_overflow_is_followed() -> None:
    old, young = int(NOW) - 9_000_000, int(NOW) - 60
    found = [
        Pointer("raft", tuple(Named(key(1), young) for _ in range(5))),  # named by all, with most: that is nothing
        Pointer("raft", (Named(key(2), old),)),
        Pointer("raft", (Named(key(3), young, True), Named(key(3), young, True), Named(key(3), young))),
        Pointer("raft", (Named(key(4), young, False),)),
        Pointer("raft", (Named(key(5), young, True), Named(key(5), young), Named(key(5), young))),  # one liar lifts it
        Pointer("raft", (Named(key(6), 1), Named(key(6), young - 5), Named(key(6), young - 5))),
        Pointer("raft", (Named(key(7), int(NOW) + 10_000),)),
    ]
    chosen = [one.publisher for one in pointers(found, NOW, lambda publisher: publisher == key(4))]
    assert chosen == [key(4), key(3), key(2), key(6)]
    many = [Pointer("raft", (Named(key(n), old + n),)) for n in range(20)]
    assert len(pointers(many, NOW)) == POINTERS
    assert [one.publisher for one in pointers(many, NOW, everything=True)] == [key(n) for n in range(POINTERS_ALL)]
