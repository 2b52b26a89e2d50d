"""1,000 virtual nodes run the daemon's pure DHT code: what is provided is found, whoever hangs or lies."""

from __future__ import annotations

from statistics import median

from p2pshare_protocols.kad_keys import Contact
from tests.simulation.virtual_dht import VirtualNetwork


def rounds_and_misses(network: VirtualNetwork, times: int) -> tuple[list[float], list[float], int]:
    provides, searches, missed = [], [], 0
    for _ in range(times):
        provider, seeker = network.rng.sample(network.honest(), 2)
        key = network.rng.getrandbits(256)
        provides.append(network.provide(provider, key).rounds)
        found = network.look_up(seeker, key)
        searches.append(found.rounds)
        missed += provider.contact.peer_id not in found.providers
    return provides, searches, missed


def test_a_thousand_nodes_find_what_is_provided() -> None:
    network = VirtualNetwork(1000, seed=1)
    provides, searches, missed = rounds_and_misses(network, 15)
    assert missed == 0
    assert median(provides) < 7
    assert median(searches) < 5
    assert network.size.size is not None
    assert 700 < network.size.size < 1400


def test_records_stand_at_the_nearest_nodes() -> None:
    network = VirtualNetwork(1000, seed=2)
    key = network.rng.getrandbits(256)
    stored = network.provide(network.honest()[0], key)
    assert {c.peer_id for c in network.nearest(key, 20)} - {"n0"} <= {c.peer_id for c in stored.at}


def test_most_of_a_region_is_told_while_the_lookup_goes_on() -> None:
    network = VirtualNetwork(1000, seed=9)
    for node in network.rng.sample(network.honest(), 5):
        network.look_up(node, network.rng.getrandbits(256))
    for _ in range(10):
        stored = network.provide(network.honest()[0], network.rng.getrandbits(256))
        assert stored.late <= 4
        assert stored.told + stored.late >= len(stored.at)
        assert stored.messages < stored.asked + 2 * len(stored.at)
        have = [node for node in network.nodes.values() if node.providers]
        assert {contact.peer_id for contact in stored.at} <= {node.contact.peer_id for node in have}


def test_a_fifth_that_hangs_costs_a_few_rounds() -> None:
    network = VirtualNetwork(1000, seed=3, hanging=0.2)
    provides, searches, missed = rounds_and_misses(network, 15)
    assert missed == 0
    assert median(provides) < 12
    assert median(searches) < 10


def test_poisoned_replies_neither_hide_records_nor_take_the_table_over() -> None:
    network = VirtualNetwork(1000, seed=4, hanging=0.1, poisoning=0.05)
    before = {node.contact.peer_id: len(node.table) for node in network.honest()}
    _, _, missed = rounds_and_misses(network, 10)
    assert missed == 0
    for node in network.honest():
        assert all(contact.peer_id in network.nodes for contact in node.table)
        assert len(node.table) >= before[node.contact.peer_id] * 0.8


def test_one_seed_is_enough_to_join() -> None:
    network = VirtualNetwork(500, seed=5)
    newcomer = network.add(Contact("new", network.rng.getrandbits(256)))
    seed = network.honest()[0].contact
    joined = network.look_up(newcomer, newcomer.contact.key, seeds=[seed])
    nearest = {contact.peer_id for contact in network.nearest(newcomer.contact.key, 21)} - {"new"}
    assert nearest <= {contact.peer_id for contact in joined.lookup.found()}
    assert len(newcomer.table) >= 20


def test_disjoint_paths_find_the_same() -> None:
    network = VirtualNetwork(500, seed=6, hanging=0.1)
    key = network.rng.getrandbits(256)
    stored = network.provide(network.honest()[0], key, paths=3)
    nearest = {contact.peer_id for contact in network.nearest(key)}
    assert len(nearest & {contact.peer_id for contact in stored.at}) >= 18
    assert stored.rounds < 25


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [rounds_and_misses(VirtualNetwork(200, seed=7, hanging=0.2), 3) for _ in range(2)]
    assert runs[0] == runs[1]


def test_twenty_nodes_right_at_a_key_cannot_hide_its_record() -> None:
    network = VirtualNetwork(1000, seed=8)
    for node in network.rng.sample(network.honest(), 5):
        network.look_up(node, network.rng.getrandbits(256))  # how big the network is, from elsewhere
    key = network.rng.getrandbits(256)
    network.surround(key, 20)
    provider, *seekers = network.rng.sample(network.honest(), 11)
    stored = network.provide(provider, key)
    honest = [contact for contact in stored.at if not contact.peer_id.startswith("hides")]
    assert len(honest) >= 8
    assert all(provider.contact.peer_id in network.look_up(seeker, key).providers for seeker in seekers)
