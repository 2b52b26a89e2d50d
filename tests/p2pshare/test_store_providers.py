"""Bounds of the provider records, and that a stranger cannot steer who must go."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pshare.errors import QuotaExceeded
from p2pshare.store import Store, open_store
from p2pshare.store.providers import OWN, PRIVATE, Bounds, Providers

LATER = 100.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        yield opened


def holders(providers: Providers, key: bytes = b"key") -> set[str]:
    return {peer for peer, _, _ in providers.get(key, 0.0, 1000)}


def sums_are_right(store: Store) -> bool:
    wrong = (
        "SELECT count(*) FROM provider_peers q"
        " WHERE q.records != (SELECT count(*) FROM providers p WHERE p.peer = q.id)"
    )
    own = Providers(store._db).count()
    return store._db.number(wrong) == 0 and own == store._db.number("SELECT count(*) FROM providers")


def test_a_full_key_takes_newcomers_at_the_cost_of_the_crowd_only(store: Store) -> None:
    providers = Providers(store._db, bounds=Bounds(key=6, key_subnet=4))
    for peer in ("old1", "old2"):
        providers.put(b"key", peer, [], LATER, subnet=f"net of {peer}")
    for number in range(4):
        providers.put(b"key", f"flood{number}", [], LATER, subnet="flood")
    with pytest.raises(QuotaExceeded):
        providers.put(b"key", "flood4", [], LATER, subnet="flood")
    providers.put(b"key", "new", [], LATER, subnet="net of new")
    assert holders(providers) == {"old1", "old2", "flood0", "flood1", "flood2", "new"}
    for number in range(9):  # a flood from many subnets finds an end too
        try:
            providers.put(b"key", f"wide{number}", [], LATER, subnet=f"wide{number}")
        except QuotaExceeded:
            continue
    assert {"old1", "old2", "new"} <= holders(providers)
    assert len(holders(providers)) == 6
    assert sums_are_right(store)


def test_a_full_store_is_no_weapon_against_older_records(store: Store) -> None:
    providers = Providers(store._db, bounds=Bounds(total=10, subnet=8))
    providers.put(b"ours", "us", [], LATER)
    providers.put(b"honest", "old", [], LATER, subnet="old")
    for number in range(8):
        providers.put(b"flood%d" % number, "flood", [], LATER, subnet="flood")
    with pytest.raises(QuotaExceeded):
        providers.put(b"flood9", "flood too", [], LATER, subnet="flood")
    providers.put(b"honest", "new", [], LATER, subnet="new")
    assert holders(providers, b"honest") == {"old", "new"}
    assert holders(providers, b"flood7") == set()  # the newest of the crowd made room
    assert holders(providers, b"flood0") == {"flood"}
    assert holders(providers, b"ours") == {"us"}
    assert providers.count() == 10
    assert sums_are_right(store)


def test_bounds_of_a_peer_and_of_the_peers_of_a_subnet(store: Store) -> None:
    providers = Providers(store._db, bounds=Bounds(peer=2, subnet_peers=2, peers=4))
    for key in (b"1", b"2"):
        providers.put(key, "a", [], LATER, subnet="s")
    with pytest.raises(QuotaExceeded):
        providers.put(b"3", "a", [], LATER, subnet="s")
    providers.put(b"1", "a", [], LATER + 1, subnet="s")  # renewing is free
    providers.put(b"1", "b", [], LATER, subnet="s")
    with pytest.raises(QuotaExceeded):
        providers.put(b"1", "c", [], LATER, subnet="s")
    for peer in ("d", "e", "f"):
        providers.put(b"1", peer, [], LATER, subnet=PRIVATE)
    with pytest.raises(QuotaExceeded):
        providers.put(b"1", "g", [], LATER, subnet="t")
    providers.put(b"1", "us", [], LATER, subnet=OWN)
    assert providers.expire(LATER) == 6
    assert providers.count() == 1
    providers.put(b"1", "g", [], LATER, subnet="t")  # who has no record is forgotten
    assert sums_are_right(store)


def test_addresses_are_the_peers_and_the_newest_count(store: Store) -> None:
    store.providers.put(b"1", "a", ["/old"], LATER)
    store.providers.put(b"2", "a", ["/new"], LATER)
    assert store.providers.get(b"1", 0.0) == [("a", ["/new"], LATER)]
    assert store.providers.one(b"1", "a", 0.0) == (["/new"], LATER)
    assert store.providers.one(b"1", "a", LATER) is None
    assert store.providers.one(b"3", "a", 0.0) is None


def test_samples_differ_by_seed_and_reach_everybody(store: Store) -> None:
    for number in range(40):
        store.providers.put(b"key", f"p{number}", [], LATER)
    rng = random.Random(1)
    seeds = [rng.getrandbits(32) for _ in range(200)]
    samples = [[peer for peer, _ in store.providers.sample(b"key", 0.0, 5, seed)] for seed in seeds]
    assert all(len(set(sample)) == 5 for sample in samples)
    assert len({peer for sample in samples for peer in sample}) > 35


def test_records_outlive_the_process(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.providers.put(b"key", "a", ["/x"], LATER, subnet="s")
    with open_store(tmp_path) as store:
        assert store.providers.get(b"key", 0.0) == [("a", ["/x"], LATER)]
        assert store.providers.count() == 1
