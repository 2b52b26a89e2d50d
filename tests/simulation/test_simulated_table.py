"""The figures of `python -m bench dht --table`, smaller: each row's promise holds, by seed."""

from __future__ import annotations

import pytest

from p2pshare_protocols.kad_churn import LEAST, REPUBLISH, Lives
from tests.simulation.churn import ChurningNetwork
from tests.simulation.measure import measure
from tests.simulation.virtual_dht import VirtualNetwork


def test_queries_grow_with_the_logarithm_of_the_size() -> None:
    rows = {count: measure(VirtualNetwork(count, seed=1), 15).figures() for count in (100, 400, 1600)}
    firsts = [float(row["queries_to_first_provider_p50"]) for row in rows.values()]
    assert all(row["found_percent"] == 100 for row in rows.values())
    assert firsts[-1] <= 20
    assert firsts[2] - firsts[1] <= 8  # two bits more
    assert rows[1600]["nearest_20_reached_percent"] > 98


def test_half_of_the_nodes_dead_and_unnoticed() -> None:
    assert measure(VirtualNetwork(500, seed=2, hanging=0.5), 40).share >= 0.99


def test_a_fifth_that_hangs_does_not_double_the_time() -> None:
    healthy = measure(VirtualNetwork(500, seed=3), 100).figures()
    hanging = measure(VirtualNetwork(500, seed=3, hanging=0.2), 100).figures()
    assert hanging["found_percent"] == 100
    first, end = "round_trips_to_first_provider_p95", "round_trips_to_end_p95"
    assert hanging[first] < 2 * healthy[first]
    assert hanging[end] < 2.5 * healthy[end]  # 2 over 500 lookups; of 100 the p95 is five of them


def test_lost_and_late_answers_hide_nothing() -> None:
    assert measure(VirtualNetwork(500, seed=4, loss=0.1, slow=0.1), 50).share == 1


def test_half_of_the_nodes_collude() -> None:
    row = measure(VirtualNetwork(500, seed=5, colluding=0.5), 40, paths=2)
    assert row.share >= 0.99
    assert float(row.figures()["queries_to_end_p50"]) <= 45


def test_a_search_that_came_back_poor_goes_on_as_disjoint_paths() -> None:
    """Seven of ten collude: one path loses a twelfth of the keys, and to look on costs only those that found nobody."""
    one, on = (measure(VirtualNetwork(500, seed=5, colluding=0.7), 60, poor_paths=paths) for paths in (1, 2))
    assert one.share < 0.95
    assert on.share >= 0.99
    assert float(on.figures()["queries_to_end_p50"]) <= float(one.figures()["queries_to_end_p50"]) + 3


@pytest.mark.parametrize("seed", [5, 6])
def test_half_collude_and_only_poor_searches_take_disjoint_paths(seed: int) -> None:
    row = measure(VirtualNetwork(500, seed=seed, colluding=0.5), 60, paths=2, poor_paths=2)
    assert row.share >= 0.99
    assert float(row.figures()["queries_to_end_p50"]) <= 35


@pytest.mark.parametrize(
    ("behaviour", "spread"), [("hides", False), ("lies", False), ("hides", True)], ids=["silent", "lying", "spread"]
)
@pytest.mark.parametrize("count", [20, 60])
def test_sybils_at_a_key(count: int, behaviour: str, spread: bool) -> None:
    without = measure(VirtualNetwork(400, seed=6), 10).figures()
    row = measure(VirtualNetwork(400, seed=6), 4, sybils=count, behaviour=behaviour, spread=spread)
    assert row.share == 1
    assert float(row.figures()["messages_a_store_mean"]) <= 2 * float(without["messages_a_store_mean"])


@pytest.mark.parametrize("share", [0.002, 0.1])
def test_two_thousand_made_up_peers_in_a_reply(share: float) -> None:
    network = VirtualNetwork(500, seed=7, poisoning=share)
    assert measure(network, 20).found >= 19
    assert all(contact.peer_id in network.nodes for node in network.honest() for contact in node.table)


def test_nodes_that_live_for_a_minute() -> None:
    churning = ChurningNetwork(80, seed=8, half_life=60.0, providers=10)
    tally = churning.run(180.0, seek_from=20.0, seek_every=1.0)
    assert tally.deaths > 100
    assert tally.found >= 0.99 * tally.sought
    assert tally.stores >= 15  # they noticed, and stored anew


def test_how_long_nodes_live_is_measured() -> None:
    lives = Lives()
    assert lives.renew_after() == REPUBLISH
    for _ in range(50):
        lives.saw(30.0, died=False)
    for _ in range(7):
        lives.saw(30.0, died=True)
    assert lives.half_life is None  # a few may always die
    lives.saw(30.0, died=True)
    assert lives.half_life == pytest.approx(0.6931 * 58 * 30 / 8, rel=0.01)
    assert lives.renew_after() == pytest.approx(1.5 * 0.6931 * 58 * 30 / 8, rel=0.01)
    for _ in range(500):
        lives.saw(1.0, died=True)
    assert lives.renew_after() == lives.refresh_after(3600.0) == LEAST
