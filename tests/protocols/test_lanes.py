"""How many connections to one source: tried where a flat rate says that one is not enough, kept where it helps."""

from collections.abc import Callable
from itertools import pairwise

from p2pshare_protocols.lanes import MOST, REST, Lanes


def play(rate_of: Callable[[int], float], rtt: float, seconds: float, *, full: bool = True) -> list[int]:
    """The connections wanted, every quarter second; `rate_of` gives the sum's bytes a second for so many."""
    lanes, received, wanted, seen = Lanes(), 0.0, 1, []
    for step in range(int(seconds * 4)):
        seen.append(wanted := lanes.look(int(received), rtt, step / 4, full=full))
        received += rate_of(wanted) / 4
    return seen


def test_a_path_that_each_connection_fills_a_quarter_of_gets_four() -> None:
    assert play(lambda n: n * 5e6, 0.05, 30)[-1] == MOST


def test_a_second_one_that_brings_nothing_goes_again_and_is_not_tried_again_soon() -> None:
    seen = play(lambda n: 20e6, 0.05, 18)
    assert max(seen) == 2
    assert seen[-1] == 1
    assert sum(a < b for a, b in pairwise(seen)) == 1
    assert play(lambda n: 20e6, 0.05, REST + 12).count(2) > seen.count(2)


def test_on_a_near_path_and_where_too_little_is_asked_nothing_is_tried() -> None:
    assert set(play(lambda n: n * 5e6, 0.001, 30)) == {1}
    assert set(play(lambda n: n * 5e6, 0.2, 30, full=False)) == {1}


def test_a_long_path_has_two_from_the_start() -> None:
    assert play(lambda n: n * 15e6, 0.2, 1)[1] == 2


def test_a_rate_that_still_grows_is_waited_for() -> None:
    lanes, received = Lanes(), 0.0
    for step in range(20):
        assert lanes.look(int(received), 0.05, step / 4, full=True) == 1
        received += 1e5 * 1.2**step
