"""A peer may ask now and then; many peers together may not take the node's time."""

from __future__ import annotations

from p2pshare.index.limits import Allowance


def asked(allowance: Allowance, peer: str, times: int, now: float) -> int:
    return sum(allowance.take(peer, now) for _ in range(times))


def test_a_burst_and_then_a_rate() -> None:
    allowance = Allowance(0.0)
    assert asked(allowance, "a", 30, 0.0) == 20
    assert asked(allowance, "a", 30, 5.0) == 10
    assert asked(allowance, "b", 30, 5.0) == 20


def test_many_peers_share_one_allowance() -> None:
    allowance = Allowance(0.0)
    assert sum(asked(allowance, f"peer{n}", 10, 0.0) for n in range(50)) == 100


def test_costly_questions_use_a_peers_allowance_up_sooner() -> None:
    allowance = Allowance(0.0)
    assert allowance.take("a", 0.0)
    allowance.spend("a", 1.5, 0.0)
    assert not allowance.take("a", 9.0)
    assert allowance.take("a", 11.0)


def test_costly_questions_of_several_peers_use_the_common_allowance_up() -> None:
    allowance = Allowance(0.0)
    allowance.spend("a", 1.5, 0.0)
    assert allowance.take("b", 0.0)
    allowance.spend("b", 0.6, 0.0)
    assert not allowance.take("c", 0.0)
    assert allowance.take("c", 1.0)


def test_a_refused_peer_takes_nothing_from_the_others() -> None:
    allowance = Allowance(0.0)
    asked(allowance, "greedy", 10_000, 0.0)
    assert sum(asked(allowance, f"peer{n}", 10, 0.0) for n in range(20)) == 80


def test_peers_that_come_and_go_do_not_pile_up() -> None:
    allowance = Allowance(0.0)
    for number in range(5000):
        allowance.take(f"peer{number}", float(number))
    assert len(allowance._peers) == 1024
