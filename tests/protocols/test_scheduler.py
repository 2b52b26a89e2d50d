"""The scheduler, told as fetches: who is asked for what, and what happens to the slow, the silent and the liar."""

from collections.abc import Sequence
from typing import Any

from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.scheduler import (
    MAX_WINDOW,
    MIN_PIECES,
    REFILL,
    STALL_UNKNOWN,
    START,
    START_WINDOW,
    Cancelled,
    Scheduler,
)

MIB = 1 << 20


def bits(size: int, *ones: int) -> Bitmap:
    bitmap = Bitmap(size)
    for one in ones:
        bitmap.add(one)
    return bitmap


def scheduler(sizes: Sequence[int], done: Bitmap | None = None, **options: Any) -> Scheduler:
    """One that starts as it goes on, without the larger window of a source that is still growing."""
    return Scheduler(sizes, done, **{"start_window": 0, **options})


def deliver(fetch: Scheduler, source: str, piece: int, now: float) -> list[Cancelled]:
    fetch.heard(source, fetch.sizes[piece], now)
    return fetch.delivered(source, piece, now)


def test_one_source_is_asked_for_two_pieces_and_then_for_the_next_as_they_come() -> None:
    fetch = scheduler([MIB] * 4)
    fetch.join("a", 0.0)
    assert fetch.ask("a", 0.0) == [0, 1]
    assert fetch.ask("a", 0.0) == []
    deliver(fetch, "a", 0, 10.0)
    assert fetch.ask("a", 10.0) == [2]
    for piece in (1, 2, 3):
        deliver(fetch, "a", piece, 20.0 + piece)
        fetch.ask("a", 20.0 + piece)
    assert fetch.finished
    assert (fetch.left, fetch.outstanding) == (0, 0)


def test_pieces_of_an_earlier_run_are_not_asked_for_again() -> None:
    fetch = scheduler([MIB] * 5, bits(5, 0, 2, 4))
    fetch.join("a", 0.0)
    assert fetch.ask("a", 0.0) == [1, 3]
    assert fetch.left == 2


def test_a_fetch_may_start_anywhere_and_wraps_around() -> None:
    fetch = scheduler([MIB] * 4, start=3)
    fetch.join("a", 0.0)
    assert fetch.ask("a", 0.0) == [3, 0]


def test_a_sequential_fetch_is_in_order_and_a_lost_piece_comes_next() -> None:
    fetch = scheduler([MIB] * 6, sequential=True, start=3)
    fetch.join("a", 0.0)
    fetch.join("b", 0.0)
    assert fetch.ask("a", 0.0) == [0, 1]
    assert fetch.ask("b", 0.0) == [2, 3]
    fetch.leave("a")
    deliver(fetch, "b", 2, 1.0)
    assert fetch.ask("b", 1.0)[0] == 0


def test_a_fast_source_gets_a_window_of_its_bandwidth_delay_product() -> None:
    fetch = scheduler([MIB] * 1000)
    fetch.join("fast", 0.0)
    fetch.join("slow", 0.0)
    fetch.ask("slow", 0.0)
    now = 0.0
    asked = fetch.ask("fast", now)
    for _ in range(60):  # 40 MiB/s
        now += 0.025
        deliver(fetch, "fast", asked.pop(0), now)
        asked += fetch.ask("fast", now)
    window = fetch.window("fast", now)
    assert 40 * MIB * 0.25 <= window <= 40 * MIB * 0.35
    assert window - min(window // 4, REFILL) <= fetch.sources["fast"].out_bytes <= window + MIB
    assert len(fetch.sources["slow"].out) == MIN_PIECES


def test_what_is_outstanding_is_bounded_for_a_source_and_for_the_fetch() -> None:
    fetch = scheduler([MIB] * 1000, max_outstanding=24 * MIB)
    for name in ("a", "b"):
        fetch.join(name, 0.0)
        fetch.sources[name].rate = 1e12
        fetch.ask(name, 0.0)
    assert fetch.sources["a"].out_bytes == MAX_WINDOW
    assert fetch.outstanding == 24 * MIB


def test_the_rarest_piece_comes_first() -> None:
    fetch = scheduler([MIB] * 4)
    fetch.join("x", 0.0, bits(4, 0, 1, 2))
    fetch.join("y", 0.0, bits(4, 0, 1, 3))
    fetch.join("z", 0.0, bits(4, 0))
    assert fetch.ask("x", 0.0) == [2, 1]
    assert fetch.ask("y", 0.0) == [3, 0]
    assert fetch.ask("z", 0.0) == []


def test_a_partial_source_is_asked_only_for_what_it_has_and_again_when_it_has_more() -> None:
    fetch = scheduler([MIB] * 3)
    fetch.join("part", 0.0, bits(3, 1))
    assert fetch.ask("part", 0.0) == [1]
    deliver(fetch, "part", 1, 1.0)
    assert fetch.ask("part", 1.0) == []
    assert not fetch.outstanding
    assert not fetch.wanted_from("part")
    fetch.join("part", 2.0, bits(3, 1, 2))
    assert fetch.wanted_from("part")
    assert fetch.ask("part", 2.0) == [2]


def test_a_partial_source_far_from_the_start_is_found_in_bounded_steps() -> None:
    fetch = scheduler([1] * 10_000)
    fetch.join("part", 0.0, bits(10_000, 9_999))
    asked: list[int] = []
    for _ in range(3):
        asked += fetch.ask("part", 0.0)
    assert asked == [9_999]


def test_the_last_pieces_are_asked_twice_and_the_first_to_deliver_wins() -> None:
    fetch = scheduler([MIB] * 3)
    fetch.join("slow", 0.0)
    fetch.join("fast", 0.0)
    assert fetch.ask("slow", 0.0) == [0, 1]
    assert fetch.ask("fast", 0.0) == [2]
    deliver(fetch, "fast", 2, 0.1)
    again = fetch.ask("fast", 0.1)
    assert again == [1, 0]  # what the slow one would deliver last comes first
    assert deliver(fetch, "fast", 1, 0.2) == [Cancelled("slow", 1)]
    assert deliver(fetch, "fast", 0, 0.3) == [Cancelled("slow", 0)]
    assert fetch.finished
    assert fetch.outstanding == 0
    assert deliver(fetch, "slow", 0, 0.4) == []


def test_a_source_of_the_same_speed_does_not_duplicate_what_will_come_in_time() -> None:
    fetch = scheduler([MIB] * 4)
    for name in ("a", "b"):
        fetch.join(name, 0.0)
        fetch.ask(name, 0.0)
        fetch.sources[name].rate = float(MIB)
        fetch.sources[name].rtt = 0.0
    deliver(fetch, "a", 0, 1.0)
    assert fetch.ask("a", 1.0) == []


def test_a_silent_source_loses_its_pieces_and_a_slow_but_moving_one_does_not() -> None:
    fetch = scheduler([MIB] * 8)
    fetch.join("moving", 0.0)
    fetch.join("silent", 0.0)
    fetch.ask("moving", 0.0)
    fetch.ask("silent", 0.0)
    now = 0.0
    while now < STALL_UNKNOWN:
        now += 0.5
        fetch.heard("moving", 1000, now)
    assert fetch.stalled(now) == []
    assert fetch.stalled(now + 0.1) == ["silent"]
    fetch.leave("silent")
    assert fetch.stalled(now + 0.1) == []
    deliver(fetch, "moving", 0, now)
    assert 2 in fetch.ask("moving", now)


def test_patience_is_four_times_the_expected_time_of_a_piece_and_two_seconds_at_least() -> None:
    fetch = scheduler([MIB] * 8)
    fetch.join("a", 0.0)
    fetch.ask("a", 0.0)
    fetch.sources["a"].rate = float(MIB) / 2
    fetch.sources["a"].rtt = 0.0
    assert fetch.stalled(8.0) == []
    assert fetch.stalled(8.0 + 0.01) != []
    fetch.sources["a"].rate = float(100 * MIB)
    assert fetch.stalled(2.0) == []
    assert fetch.stalled(2.0 + 0.01) != []


def test_a_liar_is_banned_for_good_and_its_pieces_go_to_others() -> None:
    fetch = scheduler([MIB] * 4)
    fetch.join("liar", 0.0)
    fetch.join("honest", 0.0)
    fetch.ask("liar", 0.0)
    fetch.ban("liar")
    fetch.join("liar", 1.0)
    assert fetch.ask("liar", 1.0) == []
    assert fetch.ask("honest", 1.0) == [0, 1]


def test_a_piece_that_a_source_lacks_is_asked_of_another() -> None:
    fetch = scheduler([MIB] * 2)
    fetch.join("a", 0.0)
    assert fetch.ask("a", 0.0) == [0, 1]
    fetch.lacking("a", 0)
    fetch.lacking("a", 1)
    assert fetch.ask("a", 0.0) == []
    assert not fetch.outstanding
    assert not fetch.wanted_from("a")
    fetch.join("b", 0.0)
    assert fetch.ask("b", 0.0) == [0, 1]


def test_a_fetch_of_nothing_is_finished() -> None:
    assert scheduler([]).finished


def test_a_piece_that_arrives_after_its_source_was_given_up_counts() -> None:
    fetch = scheduler([MIB] * 2)
    fetch.join("a", 0.0)
    fetch.ask("a", 0.0)
    fetch.leave("a")
    assert deliver(fetch, "a", 0, 1.0) == []
    assert fetch.is_done(0)
    assert fetch.left == 1


def test_any_mix_of_sources_that_come_stall_lack_and_go_ends_with_every_piece_once() -> None:
    for seed in range(40):
        state = seed * 7919 + 1

        def pick(n: int) -> int:
            nonlocal state
            state = (state * 1103515245 + 12345) & 0x7FFF_FFFF
            return state // 65536 % n

        pieces = 1 + pick(40)
        fetch = scheduler([1 + pick(MIB) for _ in range(pieces)], sequential=bool(pick(2)), start=pick(100))
        done: set[int] = set()
        now = 0.0
        for step in range(20_000):
            if fetch.finished:
                break
            now += 0.01
            name = f"s{pick(5)}"
            if name not in fetch.sources or not pick(20):
                has = None if pick(2) else bits(pieces, *(p for p in range(pieces) if pick(2)))
                fetch.join(name, now, has)
            fetch.ask(name, now)
            state_of = fetch.sources[name]
            if state_of.out and pick(4):
                piece = next(iter(state_of.out))
                if pick(10):
                    deliver(fetch, name, piece, now)
                    done.add(piece)
                else:
                    fetch.lacking(name, piece)
            elif not pick(30):
                fetch.leave(name)
            assert fetch.outstanding == sum(s.out_bytes for s in fetch.sources.values())
            assert step < 19_999, f"seed {seed} did not end"
        assert done == set(range(pieces))
        assert fetch.outstanding == 0


def test_a_filled_pipe_is_asked_for_several_pieces_at_a_time() -> None:
    fetch = scheduler([MIB] * 1000)
    fetch.join("fast", 0.0)
    now, asked, times = 0.0, fetch.ask("fast", 0.0), []
    for _ in range(200):
        now += 0.01  # 100 MiB/s
        deliver(fetch, "fast", asked.pop(0), now)
        times.append(more := fetch.ask("fast", now))
        asked += more
    requests = [more for more in times[-100:] if more]
    assert 20 <= len(requests) <= 30
    assert min(map(len, requests)) >= 4


def test_a_silent_source_is_suspected_soon_and_later_than_its_longest_gap() -> None:
    fetch = scheduler([MIB] * 8)
    fetch.join("a", 0.0)
    fetch.ask("a", 0.0)
    assert fetch.silent(2.9) == []
    assert fetch.silent(3.1) == ["a"]
    deliver(fetch, "a", 0, 0.1)
    fetch.heard("a", 1, 0.2)
    assert fetch.silent(1.3) == ["a"]
    fetch.heard("a", 1, 1.2)
    assert fetch.silent(5.0) == []
    assert fetch.silent(5.3) == ["a"]


def test_a_parked_source_goes_on_where_it_was_and_what_others_took_meanwhile_is_not_asked_twice() -> None:
    fetch = scheduler([MIB] * 4)
    fetch.join("stalls", 0.0)
    assert fetch.ask("stalls", 0.0) == [0, 1]
    fetch.park("stalls")
    assert fetch.ask("stalls", 5.0) == []
    assert fetch.outstanding == 0
    assert not fetch.wanted_from("stalls")
    fetch.join("other", 5.0)
    assert fetch.ask("other", 5.0) == [0, 1]
    assert deliver(fetch, "other", 0, 5.1) == [Cancelled("stalls", 0)]
    fetch.leave("other")
    fetch.heard("stalls", 1, 6.0)
    assert list(fetch.sources["stalls"].out) == [1]
    assert fetch.ask("stalls", 6.0) == [2]
    for piece in (1, 2, 3):
        deliver(fetch, "stalls", piece, 7.0)
        fetch.ask("stalls", 7.0)
    assert fetch.finished
    assert fetch.outstanding == 0


def test_a_retired_source_finishes_what_it_was_asked_for() -> None:
    fetch = scheduler([MIB] * 4)
    fetch.join("a", 0.0)
    assert fetch.ask("a", 0.0) == [0, 1]
    fetch.retire("a")
    deliver(fetch, "a", 0, 1.0)
    assert fetch.ask("a", 1.0) == []
    assert fetch.finished_with() == []
    deliver(fetch, "a", 1, 1.0)
    assert fetch.finished_with() == ["a"]


def test_a_source_that_is_still_growing_has_a_window_that_keeps_its_pipe_full() -> None:
    fetch = Scheduler([MIB] * 100)
    fetch.join("near", 0.0, rtt=0.001)
    fetch.join("far", 0.0, rtt=0.2)
    assert len(fetch.ask("near", 0.0)) == START_WINDOW // MIB
    assert len(fetch.ask("far", 0.0)) == 8  # 40 MB/s times its round trip
    deliver(fetch, "near", 0, 1.0)
    assert len(fetch.ask("near", 1.0)) == 1
    for piece in (1, 2, 3, 12):
        deliver(fetch, "near", piece, 1.0 + START)
    assert len(fetch.ask("near", 1.0 + START)) == MIN_PIECES  # it is slow: 2 MB/s


def test_the_round_trip_is_what_a_small_question_took_not_what_a_limited_source_takes_for_a_piece() -> None:
    fetch = scheduler([MIB] * 10)
    fetch.join("asked", 0.0, rtt=0.004)
    fetch.join("unknown", 0.0)
    for source in ("asked", "unknown"):
        [piece, _] = fetch.ask(source, 0.0)
        deliver(fetch, source, piece, 0.2)
    assert fetch.sources["asked"].rtt == 0.004
    assert fetch.sources["unknown"].rtt == 0.2
