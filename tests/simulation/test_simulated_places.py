"""Where postings stand, in the simulated DHT: publisher and asker agree, also with 60 made-up nodes around one key."""

from __future__ import annotations

import pytest

from p2pshare_protocols.kad_keys import Contact
from p2pshare_protocols.postings_ask import Draw
from p2pshare_protocols.postings_place import CROWDED, REPLICAS, keepers, surrounded
from tests.simulation.virtual_dht import Node, VirtualNetwork


def places(network: VirtualNetwork, node: Node, key: int) -> list[Contact]:
    region = network.look_up(node, key).lookup.region()
    return keepers(region, lambda one: one.key ^ key, network.size.size, lambda one: one.addresses[0])


def recall(network: VirtualNetwork, searches: int, sybils: int) -> float:
    """The share of searches in which one at least of those that are asked is honest and has the posting."""
    found = 0
    for _ in range(searches):
        publisher, asker = network.rng.sample(network.honest(), 2)
        key = network.rng.getrandbits(256)
        if sybils:
            network.surround(key, sybils)
        having = {one.peer_id for one in places(network, publisher, key)} & {
            one.contact.peer_id for one in network.honest()
        }
        there = places(network, asker, key)
        draw = Draw(network.rng.sample(there, len(there)), lambda one: one.addresses[0])
        asked = draw.first() + draw.more()
        found += any(one.peer_id in having for one in asked)
        if sybils:
            network.leave()
    return found / searches


@pytest.fixture(scope="module")
def network() -> VirtualNetwork:
    network = VirtualNetwork(400, seed=11)
    for node in network.rng.sample(network.honest(), 6):  # warms the estimate of the network's size
        network.look_up(node, network.rng.getrandbits(256))
    return network


def test_publisher_and_asker_agree_on_the_eight_nearest(network: VirtualNetwork) -> None:
    assert recall(network, 30, 0) == 1.0
    key = network.rng.getrandbits(256)
    assert len(places(network, network.honest()[0], key)) in (REPLICAS, CROWDED)


def test_sixty_sybils_around_a_key_do_not_hide_its_postings(network: VirtualNetwork) -> None:
    assert recall(network, 100, 60) >= 0.99


def test_a_region_is_surrounded_when_the_eighth_is_nearer_than_half_of_what_is_to_be_expected() -> None:
    unit = (1 << 256) // 1000
    honest = [unit * (n + 1) for n in range(20)]
    assert not surrounded(honest, 1000)
    assert surrounded([unit // 1000] * 8 + honest, 1000)
    assert not surrounded([1] * 8, None)
    assert not surrounded(honest[:7], 1000)


def test_one_a_subnet_and_most_of_them_from_afar() -> None:
    close = list(range(1, 41))
    chosen = keepers(close, lambda one: one, 1000.0, lambda one: str(one % 10))
    assert chosen[:4] == [1, 2, 3, 4]
    assert len(chosen) == 10
    assert keepers(close, lambda one: one, 1000.0)[4:6] == [40, 39]
    assert len(keepers(close, lambda one: one, 1000.0)) == CROWDED
