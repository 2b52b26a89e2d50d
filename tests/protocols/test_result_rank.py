"""The order of results: parts that add up, and no subnet or name that fills a page."""

from __future__ import annotations

import pytest

from p2pshare_protocols.result_rank import CROWDED, PAGE, SHARES, Evidence, Place, crowding, parts
from p2pshare_protocols.versions import bundle_of

YEAR = 365 * 86400.0


def score(**known: object) -> float:
    return sum(parts(Evidence(**{"match": 0.8, **known})).values())  # type: ignore[arg-type]


def test_the_parts_are_the_score() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    best = parts(Evidence(1.0, 10**9, "mine", True, 10**9, 0.0))
    assert best == pytest.approx(SHARES, abs=1e-4)
    assert parts(Evidence(0.0)) == dict.fromkeys(SHARES, 0.0)


def test_every_part_makes_a_result_better_and_none_can_be_bought_without_end() -> None:
    assert score() < score(sources=1) < score(sources=2) < score(sources=1000) < 0.48 + 0.15 + 0.001
    assert score() < score(publisher="known") < score(publisher="trusted") == score(publisher="mine")
    assert score() < score(held=True)
    assert score(publishers=1) == score(publishers=0) < score(publishers=2) < score(publishers=10**6) < 0.48 + 0.051
    assert score() < score(age=3 * YEAR) < score(age=YEAR) < score(age=0.0)
    assert score(age=-1.0) == score()  # a date in the future is worth nothing
    assert parts(Evidence(0.0, age=YEAR))["fresh"] == pytest.approx(SHARES["fresh"] / 2)


def test_at_most_two_rows_of_a_page_are_of_one_subnet() -> None:
    spam, honest = Place(("198.51.100.0/24",)), Place(("203.0.113.0/24",))
    assert crowding([spam] * 5 + [honest] * 2) == [2, 3, 4]
    assert crowding([Place()] * 50) == []  # nothing is known, or somebody vouches


def test_what_is_held_in_a_second_subnet_is_counted_there() -> None:
    one, two = "198.51.100.0/24", "203.0.113.0/24"
    rows = [Place((one,)), Place((one,)), Place((one, two)), Place((one, two)), Place((one, two)), Place((two,))]
    assert crowding(rows) == [4, 5]


def test_a_second_page_counts_anew() -> None:
    others = [Place((f"203.0.{n}.0/24",)) for n in range(PAGE - 2)]
    spam = Place(("198.51.100.0/24",))
    assert crowding([spam, spam, spam, *others, spam, spam, spam]) == [2, PAGE + 3]


def test_versions_of_one_name_leave_room() -> None:
    assert crowding([Place(bundle="raft.pdf")] * 5 + [Place(bundle="paxos.pdf")]) == [3, 4]
    assert CROWDED < 1


@pytest.mark.parametrize(
    "names",
    [
        ["raft.pdf", "raft-v1.pdf", "raft_v2.pdf", "Raft v1.2.pdf", "raft (1).pdf", "raft(12).PDF", "raft - copy.pdf"],
        ["raft.tar.gz", "raft-v1.2.tar.gz", "raft-v1.2.3 (1).tar.gz"],
        ["a talk.mp4", "a-talk-final.mp4", "a_talk.draft.mp4", "A talk copy 2.mp4", "a talk-v3rc1.mp4"],
        ["raft", "raft-v1.2", "raft v2"],
        ["한국어.pdf", "한국어 (2).pdf"],
    ],
)
def test_versions_are_one_bundle(names: list[str]) -> None:
    assert len({bundle_of(name) for name in names}) == 1, [bundle_of(name) for name in names]


def test_what_only_has_numbers_is_no_version() -> None:
    names = ["report 2025.pdf", "report 2026.pdf", "s01e01.mkv", "s01e02.mkv", "1.jpg", "2.jpg", "v1.pdf", "v2.pdf"]
    names += ["raft.pdf", "raft.epub", "river.pdf", "(1)", "(2)"]
    assert len({bundle_of(name) for name in names}) == len(names)


def test_a_hostile_name_takes_no_time() -> None:
    assert len(bundle_of(" -._" * 100_000)) <= 255
