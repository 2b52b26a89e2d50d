"""One lookup places all terms of a region, and never the wrong servers."""

from __future__ import annotations

import hashlib
from typing import cast

import trio

from p2pshare.dht.api import Provider
from p2pshare.index.regions import LIFE, Regions
from p2pshare.net.api import Network
from p2pshare_protocols import kad_keys
from p2pshare_protocols.index_messages import PROTOCOL
from p2pshare_protocols.item_record import term_key
from p2pshare_protocols.peerid import peer_id_from_ed25519
from tests.support_postings import KnownDHT


class Everyone(KnownDHT):
    """An honest network: the truly nearest."""

    async def closest(self, key: bytes, count: int) -> list[Provider]:
        await trio.lowlevel.checkpoint()
        self.lookups += 1
        return truly_nearest(self.near, key)[: min(count, 20)]


class Silent:
    peer_id = "me"

    def __init__(self) -> None:
        self.deaf: set[str] = set()

    def protocols_of(self, peer_id: str) -> frozenset[str]:
        return frozenset({"/other"}) if peer_id in self.deaf else frozenset({PROTOCOL})

    def add_addresses(self, peer_id: str, addresses: object) -> None:
        pass


def truly_nearest(nodes: list[Provider], key: bytes) -> list[Provider]:
    return sorted(nodes, key=lambda one: kad_keys.peer_key(one.peer_id) ^ kad_keys.key_of(key))


def network_of(count: int) -> tuple[Everyone, Silent]:
    net = Silent()
    dht = Everyone(cast("Network", net))
    keys = (hashlib.sha256(b"node %d" % n).digest() for n in range(count))
    dht.near = [Provider(peer_id_from_ed25519(key), ()) for key in keys]
    return dht, net


async def test_every_term_stands_at_the_eight_nearest_and_a_region_is_looked_up_once() -> None:
    for count, most in ((5, 1), (15, 1), (19, 1), (200, 60)):
        dht, net = network_of(count)
        regions = Regions(dht, cast("Network", net))
        for number in range(400):
            term = f"word{number}"
            expected = truly_nearest(dht.near, term_key(term))[:8]
            assert await regions.nodes(term) == expected, (count, term)
        assert dht.lookups <= most


async def test_a_region_is_looked_up_again_after_a_while_and_when_one_of_it_was_silent() -> None:
    dht, net = network_of(10)
    now = 0.0
    regions = Regions(dht, cast("Network", net), clock=lambda: now)
    for _ in range(3):
        await regions.nodes("raft")
    assert dht.lookups == 1
    regions.forget_node(dht.near[0].peer_id)
    await regions.nodes("raft")
    assert dht.lookups == 2
    now = LIFE + 1
    await regions.nodes("raft")
    assert dht.lookups == 3


async def test_who_does_not_speak_the_protocol_keeps_nothing() -> None:
    dht, net = network_of(10)
    net.deaf = {one.peer_id for one in dht.near[:5]}
    assert set(await Regions(dht, cast("Network", net)).nodes("raft")) == set(dht.near[5:])
