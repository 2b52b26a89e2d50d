"""The room of one word: bounds and fair eviction, also with many subnets and spam, at a small size."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from p2pshare_protocols.postings_room import Origin, TermRoom, subnets


def origin(publisher: int, small: int = 0, large: int | None = None) -> Origin:
    return Origin(publisher.to_bytes(32, "big"), f"s{small}", f"l{small if large is None else large}")


def fill(room: TermRoom, who: Origin, count: int) -> int:
    """Offers `count` postings of `who`; how many were taken."""
    taken = 0
    for _ in range(count):
        verdict = room.weigh(who)
        if verdict.taken:
            if verdict.evict is not None:
                room.count(verdict.evict, -1)
            room.count(who, 1)
            taken += 1
    return taken


def test_a_publisher_has_250_under_a_word() -> None:
    room = TermRoom()
    assert fill(room, origin(1), 300) == 250
    assert fill(room, origin(2), 300) == 250


def test_a_subnet_has_5_percent_and_a_large_one_15() -> None:
    room = TermRoom(room=1000)
    assert sum(fill(room, origin(n, small=1), 10) for n in range(100)) == 50
    assert sum(fill(room, origin(1000 + n, small=100 + n, large=7), 10) for n in range(100)) == 150


def test_private_addresses_count_for_no_subnet() -> None:
    room = TermRoom(room=1000)
    assert sum(fill(room, Origin(bytes([n]) * 32, "", ""), 10) for n in range(100)) == 1000


def test_a_full_word_takes_from_the_subnet_and_publisher_with_the_most() -> None:
    room = TermRoom([(origin(n, small=n), 4) for n in range(24)] + [(origin(99, small=99), 5)] * 1, room=101)
    assert room.total == 101
    verdict = room.weigh(origin(200, small=200))
    assert (verdict.taken, verdict.evict) == (True, origin(99, small=99))
    assert not room.weigh(origin(99, small=99)).taken
    assert not TermRoom([(origin(n, small=n), 4) for n in range(25)], room=100).weigh(origin(3, small=3)).taken


@pytest.mark.parametrize("hostile", [1, 50])
def test_spam_from_a_few_subnets_does_not_push_the_honest_out(hostile: int) -> None:
    """2000 places; 1500 honest postings of 300 subnets came first or last; 100,000 offers of 1000 identities."""
    rng = random.Random(7)
    for spam_first in (True, False):
        room = TermRoom(room=2000)
        honest = [origin(n, small=n, large=n // 4) for n in range(300) for _ in range(5)]
        spam = [origin(10**6 + rng.randrange(1000), small=10**6 + n % hostile) for n in range(20_000)]
        for who in [*spam, *honest] if spam_first else [*honest, *spam]:
            fill(room, who, 1)
        kept = Counter({who: count for who, count in room.counts().items() if int(who.small[1:]) < 10**6})
        assert sum(kept.values()) >= 0.8 * 1500, spam_first
        if hostile == 1:
            assert room.total - sum(kept.values()) <= 100  # 5 % of the room


def test_who_is_gone_leaves_nothing_behind() -> None:
    room = TermRoom()
    fill(room, origin(1), 3)
    for _ in range(3):
        room.count(origin(1), -1)
    assert (room.total, room.origins) == (0, 0)


def test_subnets_of_addresses() -> None:
    assert subnets("8.8.4.4") == ("8.8.4.0/24", "8.8.0.0/16")
    assert subnets("2001:4860:1:2::1") == ("2001:4860:1::/48", "2001:4860::/32")
    assert subnets("::ffff:8.8.4.4") == ("8.8.4.0/24", "8.8.0.0/16")
    assert subnets("127.0.0.1") == subnets("192.168.1.1") == subnets("not an address") == ("", "")
