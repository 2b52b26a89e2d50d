"""The routing table: who gets in, who stays, who is named."""

from __future__ import annotations

import random

import pytest

from p2pshare_protocols import kad_keys
from p2pshare_protocols.kad_keys import Contact, shared_bits
from p2pshare_protocols.kad_table import CHECK_AGE, MAX_FAILURES, RoutingTable, restore

OWN = Contact("own", 0)


def far(number: int, address: str | None = None) -> Contact:
    """A contact in bucket 0: it shares no bit with us."""
    return Contact(f"far{number}", 1 << 255 | number, (address or f"/ip4/10.0.{number}.1/tcp/1",))


def near(bits: int, number: int = 0) -> Contact:
    return Contact(f"near{bits}.{number}", 1 << (255 - bits) | number, (f"/ip4/10.{bits}.{number}.1/tcp/1",))


def table(k: int = 4, **options: bool) -> RoutingTable:
    return RoutingTable(OWN, k=k, **options)


def test_a_full_bucket_keeps_those_that_answer() -> None:
    routes = table()
    assert routes.answered(near(9), 0.0)  # someone on our side, so that bucket 0 is a bucket of its own
    assert [routes.answered(far(n), 0.0) for n in range(4)] == [True] * 4
    assert not routes.answered(far(4), 1.0)
    assert "far4" not in routes
    assert len(routes) == 5


def test_a_silent_peer_gives_way_to_the_newest_that_waits() -> None:
    routes = table()
    routes.answered(near(9), 0.0)
    for n in range(7):
        routes.answered(far(n), float(n))
    assert routes.failed("far0")
    assert "far0" not in routes
    assert "far6" in routes
    assert len(routes) == 5


def test_a_silent_peer_that_nobody_replaces_has_three_tries() -> None:
    routes = table()
    routes.answered(far(0), 0.0)
    assert [routes.failed("far0") for _ in range(MAX_FAILURES)] == [False, False, True]
    routes.answered(far(0), 0.0)
    routes.failed("far0")
    routes.answered(far(0), 1.0)
    assert [routes.failed("far0") for _ in range(MAX_FAILURES)] == [False, False, True]
    assert not routes.failed("nobody")


def test_a_peer_that_failed_is_named_last() -> None:
    routes = table()
    for n in range(3):
        routes.answered(far(n), 0.0)
    routes.failed("far0")
    assert [contact.peer_id for contact in routes.closest(1 << 255)] == ["far1", "far2", "far0"]


def test_the_bucket_on_our_side_splits() -> None:
    routes = table()
    for bits in range(12):
        for n in range(4):
            assert routes.answered(near(bits, n), 0.0)
    assert len(routes) == 48
    assert routes.depth >= 12


def test_we_are_not_in_our_own_table() -> None:
    assert not table().answered(OWN, 0.0)


def test_the_closest_are_the_closest() -> None:
    rng = random.Random(5)
    routes = RoutingTable(Contact("own", rng.getrandbits(256)), private_exempt=True)
    for n in range(2000):
        routes.answered(Contact(f"p{n}", rng.getrandbits(256), ("/ip4/10.0.0.1/tcp/1",)), 0.0)
    assert 100 < len(routes) < 300
    for _ in range(50):
        key = rng.getrandbits(256)
        assert routes.closest(key, 20) == sorted(routes, key=lambda contact: contact.key ^ key)[:20]
    key = routes.own.key
    assert routes.closest(key, 20) == sorted(routes, key=lambda contact: contact.key ^ key)[:20]


def test_one_subnet_cannot_fill_the_table() -> None:
    routes = table(k=20)
    kept = [routes.answered(near(n % 8, n), 0.0, seen_at=f"/ip4/8.8.8.{n}/tcp/1") for n in range(200)]
    assert sum(kept) == 2
    v6 = [routes.answered(near(n % 8, 300 + n), 0.0, seen_at=f"/ip6/2606:4700:0:{n:x}::1/tcp/1") for n in range(200)]
    assert sum(v6) == 2
    names = [routes.answered(near(n % 8, 600 + n), 0.0, seen_at=f"/dns4/a{n}.org/tcp/1") for n in range(200)]
    assert sum(names) == 2


def test_places_of_a_subnet_are_given_back() -> None:
    routes = table(k=20)
    for n in range(3):
        routes.answered(near(n, n), 0.0, seen_at="/ip4/8.8.8.8/tcp/1")
    routes.remove("near0.0")
    assert routes.answered(near(5, 5), 0.0, seen_at="/ip4/8.8.8.9/tcp/1")


def test_claimed_addresses_do_not_free_a_peer_from_its_subnet() -> None:
    routes = table(k=20)
    liars = [Contact(f"l{n}", n + 1, (f"/ip4/{n + 1}.2.3.4/tcp/1",)) for n in range(20)]
    assert sum(routes.answered(liar, 0.0, seen_at="/ip4/8.8.8.8/tcp/1") for liar in liars) <= 3


def test_private_networks_count_for_nothing_where_they_are_allowed() -> None:
    same = "/ip4/192.168.1.1/tcp/1"
    public, home = table(k=20), table(k=20, private_exempt=True)
    assert sum(public.answered(far(n, same), 0.0) for n in range(10)) == 2
    assert sum(home.answered(far(n, same), 0.0) for n in range(10)) == 10


def test_a_subnet_has_three_places_in_all_buckets_together() -> None:
    routes = table()
    for bits in range(8):
        for n in range(4):
            routes.answered(near(bits, n), 0.0)
    routes.remove("near0.0")
    for bits in range(8):
        routes.remove(f"near{bits}.1")
    kept = [routes.answered(near(bits, 99), 0.0, seen_at="/ip4/8.8.8.8/tcp/1") for bits in range(8)]
    assert kept == [True] * 3 + [False] * 5


def test_old_peers_are_checked_only_where_others_wait() -> None:
    routes = table()
    routes.answered(near(9), 0.0)
    for n in range(4):
        routes.answered(far(n), float(n))
    assert routes.to_check(CHECK_AGE * 2) == []
    routes.answered(far(5), CHECK_AGE)
    assert routes.to_check(CHECK_AGE - 1) == []
    assert [contact.peer_id for contact in routes.to_check(CHECK_AGE + 1)] == ["far0"]


def test_buckets_are_refreshed_by_age() -> None:
    routes = table()
    for n in range(4):
        routes.answered(far(n), 0.0)
    routes.answered(near(1), 0.0)
    assert routes.stale(0.0) == [0, 1]
    routes.looked_up(1 << 255, 10.0)
    assert routes.stale(3000.0) == [1]
    assert routes.stale(3610.0) == [0, 1]


def test_saved_and_read_back() -> None:
    routes = table()
    routes.answered(far(1), 0.0)
    assert restore(routes.save()) == [("far1", ("/ip4/10.0.1.1/tcp/1",))]
    assert len(restore([("x", ["a"] * 99)] * 5000)) == 1000


def test_names_for_a_refresh_fall_into_their_bucket() -> None:
    for bits in (0, 3, 9):
        name = kad_keys.name_near(12345, bits, bytes(32))
        assert len(name) == 34
        assert shared_bits(12345, kad_keys.key_of(name)) == bits
    with pytest.raises(ValueError, match="prefixes"):
        kad_keys.name_near(1, 15, bytes(32))
