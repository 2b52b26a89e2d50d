"""Regions of keys, and which node keeps which of them."""

from __future__ import annotations

import random

from p2pshare_protocols import kad_sweep
from p2pshare_protocols.kad_keys import BITS, Contact, K, key_of


def test_as_many_bits_as_leave_enough_nodes() -> None:
    assert [kad_sweep.prefix_bits(size) for size in (None, 10, 79, 80, 160, 10_000)] == [0, 0, 0, 1, 2, 7]
    for size in (80, 500, 10_000, 1e6):
        assert 2 * K <= size / 2 ** kad_sweep.prefix_bits(size) <= 4 * K


def test_keys_are_cut_into_regions_in_order() -> None:
    names = [b"%d" % number for number in range(500)]
    regions = list(kad_sweep.regions(names, 4))
    assert len(regions) == 16
    assert sorted(name for region in regions for name in region) == sorted(names)
    prefixes = [{key_of(name) >> (BITS - 4) for name in region} for region in regions]
    assert prefixes == [{number} for number in range(16)]
    assert [len(region) for region in kad_sweep.regions(names, 0)] == [500]
    assert list(kad_sweep.regions([], 3)) == []


def test_each_key_goes_to_the_nodes_nearest_to_it() -> None:
    rng = random.Random(1)
    nodes = [Contact(f"n{number}", rng.getrandbits(BITS)) for number in range(70)]
    names = [b"%d" % number for number in range(50)]
    kept = kad_sweep.assign(names, nodes, None)
    for name in names:
        nearest = sorted(nodes, key=lambda node: node.key ^ key_of(name))[:K]
        assert {peer for peer, held in kept.items() if name in held} == {node.peer_id for node in nearest}
    crowd = [Contact(f"s{number}", key_of(names[0]) ^ rng.getrandbits(200)) for number in range(60)]
    kept = kad_sweep.assign(names, [*nodes, *crowd], 70.0)
    assert sum(names[0] in held for peer, held in kept.items() if peer.startswith("n")) >= 15
    assert sum(names[0] in held for peer, held in kept.items() if peer.startswith("s")) <= 5
