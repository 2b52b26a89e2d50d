"""The bench's model of the index against the daemon's own code in a small network; spam, Sybils, liars, sessions."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("numpy")

from bench import index_rows as rows
from bench.index_check import compare
from bench.index_model import Model
from bench.index_names import Named, owners


def made_names(count: int, seed: int) -> list[Named]:
    """Names with words as often as Zipf's law has it: a test needs the same ones on every machine."""
    rng = random.Random(seed)
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}x" for n in range(4000)]
    weights = [1 / (n + 1) for n in range(4000)]
    found = {f"{'-'.join(rng.choices(words, weights, k=4))}-{n}": None for n in range(count)}
    return [Named(name) for name in found]


def test_the_model_is_what_the_daemons_code_does() -> None:
    names = made_names(4000, 1)
    apart = compare(names, owners(names, 12, 0.3, 1), nodes=60, room=400, questions=60)
    assert apart["words_over_their_room"] >= 3
    assert apart["overflows"] >= 1
    assert apart["storage_of_all_differs"] <= 0.02
    assert apart["storage_of_the_busiest_differs"] <= 0.02
    assert apart["rows_told_differ"] <= 0.02
    assert apart["servers_asked_differ"] <= 0.02


def test_everything_is_found_in_a_network_of_honest_nodes() -> None:
    names = made_names(4000, 1)
    model = Model(names, owners(names, 12, 0.3, 1))
    rng = random.Random(1)
    told = rows.recall(model, rows.queries(model, 300, rng))
    assert min(told[f"words_{count}"] for count in (1, 2, 3)) >= 0.99
    assert rows.archive(model, 100, rng)["found"] >= 0.99


def test_a_subnet_that_floods_a_word_gets_a_twentieth_and_does_not_fill_the_page() -> None:
    rare = rows.spam(15, 3, 1, 1000, 20_000, 1)
    assert rare["spam_of_room"] <= 0.05
    assert rare["honest_kept"] == 1
    assert rare["honest_subnets_of_20"] == 15


def test_three_liars_of_eight_hide_nothing() -> None:
    assert rows.liars(3, 500, 1)["recovered"] == 1
    assert rows.liars(6, 500, 1)["recovered"] < 1


def test_sybils_nearest_to_a_key_hide_little() -> None:
    assert rows.sybils(500, 60, 100, 1, spread=False)["recall"] >= 0.97


def test_short_sessions_lose_nothing_between_two_sweeps() -> None:
    assert rows.churn(4, 12, 0.95, 1, terms=40, days=8)["recall"] >= 0.97
