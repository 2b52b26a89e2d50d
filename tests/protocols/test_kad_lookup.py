"""A lookup as a dialogue: who is asked, when, and when it ends."""

from __future__ import annotations

import pytest

from p2pshare_protocols import kad_region
from p2pshare_protocols.kad_keys import Contact
from p2pshare_protocols.kad_lookup import ALPHA, Lookup, Pace


def at(distance: int) -> Contact:
    """A contact at a distance from the target 0."""
    return Contact(f"p{distance}", distance)


def ids(contacts: list[Contact]) -> list[str]:
    return [contact.peer_id for contact in contacts]


def test_nobody_known_is_the_end() -> None:
    lookup = Lookup(0, [])
    assert lookup.done
    assert lookup.next_queries(0.0) == []
    assert lookup.next_deadline() is None
    assert lookup.found() == []


def test_the_window_slides() -> None:
    lookup = Lookup(0, [at(n) for n in range(1, 31)])
    first = lookup.next_queries(0.0)
    assert ids(first) == [f"p{n}" for n in range(1, ALPHA + 1)]
    assert lookup.next_queries(0.0) == []
    lookup.on_reply("p3", [], 0.1)
    assert ids(lookup.next_queries(0.1)) == ["p11"]


def test_it_ends_when_the_k_nearest_have_answered_and_asks_no_others() -> None:
    lookup = Lookup(0, [at(n) for n in range(1, 31)], k=3)
    assert ids(lookup.next_queries(0.0)) == ["p1", "p2", "p3"]
    lookup.on_reply("p1", [], 0.1)
    lookup.on_failure("p2", 0.1)
    assert ids(lookup.next_queries(0.1)) == ["p4"]
    lookup.on_reply("p3", [], 0.1)
    assert not lookup.done
    lookup.on_reply("p4", [], 0.2)
    assert lookup.done
    assert ids(lookup.found()) == ["p1", "p3", "p4"]


def test_a_node_that_hangs_costs_one_slot_until_the_limit_and_may_answer_late() -> None:
    pace = Pace()
    for _ in range(5):
        pace.sample(0.2)
    assert pace.limit == pytest.approx(0.35)
    lookup = Lookup(0, [at(n) for n in range(1, 4)], k=2, alpha=2, pace=pace)
    assert ids(lookup.next_queries(0.0)) == ["p1", "p2"]
    lookup.on_reply("p2", [], 0.19)
    assert lookup.next_queries(0.19) == []
    assert lookup.next_deadline() == pytest.approx(0.2)  # p1 is doubtful from then on
    assert ids(lookup.next_queries(0.2)) == ["p3"]
    assert lookup.next_deadline() == pytest.approx(0.35)
    assert not lookup.done
    assert lookup.next_queries(0.36) == []
    lookup.on_reply("p1", [at(0)], 0.5)
    lookup.on_reply("p3", [], 0.5)
    assert ids(lookup.next_queries(0.5)) == ["p0"]


def test_answers_to_questions_never_asked_are_ignored() -> None:
    lookup = Lookup(0, [at(5)])
    lookup.on_reply("p5", [at(1)], 0.0)
    lookup.on_reply("stranger", [at(1)], 0.0)
    assert ids(lookup.next_queries(0.0)) == ["p5"]
    lookup.on_reply("p5", [at(1)], 0.0)
    lookup.on_reply("p5", [at(2)], 0.0)
    assert ids(lookup.next_queries(0.0)) == ["p1"]


def test_we_are_never_asked() -> None:
    lookup = Lookup(0, [at(5)], own_id="p1")
    lookup.next_queries(0.0)
    lookup.on_reply("p5", [at(1)], 0.0)
    assert lookup.done


def test_of_one_informants_peers_two_fly_at_a_time_until_they_prove_themselves() -> None:
    lookup = Lookup(0, [at(900)])
    lookup.next_queries(0.0)
    lookup.on_reply("p900", [at(n) for n in range(1, 15)], 0.1)
    assert ids(lookup.next_queries(0.1)) == ["p1", "p2"]
    lookup.on_reply("p1", [], 0.2)
    assert ids(lookup.next_queries(0.2)) == ["p3", "p4"]  # p2 still flies: three may
    lookup.on_failure("p2", 0.3)
    assert lookup.next_queries(0.3) == []
    lookup.on_reply("p3", [], 0.3)
    lookup.on_reply("p4", [], 0.3)
    assert len(lookup.next_queries(0.3)) == 4


def test_a_liars_subtree_falls_and_the_honest_go_on_meanwhile() -> None:
    lookup = Lookup(0, [at(1000), at(900)], alpha=10)
    lookup.next_queries(0.0)
    lookup.on_reply("p1000", [at(n) for n in range(1, 2001)], 0.1)
    lookup.on_reply("p900", [at(n) for n in range(800, 820)], 0.1)
    asked = ids(lookup.next_queries(0.1))
    assert asked == ["p1", "p2", "p800", "p801"]
    for distance in (1, 2, 3, 4):
        lookup.on_failure(f"p{distance}", 0.2)
        lookup.next_queries(0.2)
    for _ in range(20):
        for contact in list(lookup.next_queries(0.3)):
            lookup.on_reply(contact.peer_id, [], 0.3)
        for distance in (800, 801, 802, 803, 804, 805):
            lookup.on_reply(f"p{distance}", [], 0.3)
    assert lookup.done
    assert all(contact.key >= 800 for contact in lookup.found())
    assert lookup.queries < 40


def test_what_two_name_is_not_lost_when_one_of_them_lies() -> None:
    lookup = Lookup(0, [at(1000), at(900)])
    lookup.next_queries(0.0)
    lookup.on_reply("p1000", [at(n) for n in range(1, 10)], 0.1)
    lookup.on_reply("p900", [at(9)], 0.1)
    lookup.drop("p1000")
    assert ids(lookup.next_queries(0.1)) == ["p9"]
    assert "p1000" not in ids(lookup.found())


def test_disjoint_paths_each_come_to_their_end() -> None:
    lookup = Lookup(0, [at(1000), at(900)], k=4, paths=2)
    assert len(lookup.next_queries(0.0)) == 2
    lookup.on_reply("p1000", [at(n) for n in range(1, 10)], 0.1)  # would fill the four nearest
    lookup.on_reply("p900", [at(100), at(101)], 0.1)
    asked = set(ids(lookup.next_queries(0.1)))
    for distance in (1, 2, 3, 4):
        lookup.on_reply(f"p{distance}", [], 0.2)
        asked |= set(ids(lookup.next_queries(0.2)))
    assert {"p100", "p101"} <= asked
    for distance in (100, 101):
        lookup.on_reply(f"p{distance}", [], 0.2)
    assert lookup.done


def test_with_a_bound_the_whole_region_answers() -> None:
    seeds = [at(n) for n in range(1, 101)]
    lookup = Lookup(0, seeds, k=3, bound=8, alpha=50)
    assert len(lookup.next_queries(0.0)) == 7
    for distance in range(1, 8):
        lookup.on_reply(f"p{distance}", [], 0.1)
    assert lookup.done
    assert len(lookup.region()) == 7
    assert lookup.queries == 7


def test_of_a_shell_that_is_too_full_our_own_secret_draws_who_takes_part() -> None:
    seeds = [at(n) for n in range(1, 161)]  # all in the region; of the outermost shell there are 80, of the next 40
    drawn = []
    for salt in (b"ours", b"ours", b"theirs"):
        lookup = Lookup(0, seeds, bound=161, salt=salt, alpha=200)
        for contact in lookup.next_queries(0.0):
            lookup.on_reply(contact.peer_id, [], 0.1)
        assert lookup.done
        drawn.append(ids(lookup.region()))
    assert len(drawn[0]) == sum(kad_region.CAPS)
    assert drawn[0] == drawn[1] != drawn[2]
    assert [kad_region.shell(n, 160) for n in (159, 80, 79, 40, 39, 10, 9, 0)] == [0, 0, 1, 1, 2, 3, 4, 4]


def test_memory_is_bounded() -> None:
    lookup = Lookup(0, [at(1 << 40)])
    count = 0
    for round_ in range(60):
        for contact in lookup.next_queries(float(round_)):
            lookup.on_reply(contact.peer_id, [at((1 << 39) - count - n) for n in range(20)], float(round_))
            count += 20
    assert count > 2000
    assert len(lookup._by_id) <= 1024
    assert len(lookup._order) <= 1024


def test_the_network_is_measured() -> None:
    space = 1 << 256
    distances = [place * space // 1001 for place in range(1, 21)]
    assert kad_region.estimate(distances) == pytest.approx(1000, rel=0.01)
    assert kad_region.estimate(distances[:4]) is None
    assert kad_region.bound(None) == 0
    assert kad_region.bound(1000) == pytest.approx(20 * space / 1001)
    assert kad_region.bound(3) == space
    size = kad_region.SizeEstimate()
    size.add(1, distances)
    size.add(2, list(range(1, 21)))  # an attacker's twenty, right at the key
    for _ in range(9):
        size.add(2, list(range(1, 21)))  # and we ask for it again and again
    assert size.size is None
    size.add(3, distances)
    assert size.size == pytest.approx(1000, rel=0.01)
