"""Churn in the virtual network: nodes die unnoticed and others come, while keys are provided and sought.

Each node does what the daemon does: joins by looking for itself, looks through its stale buckets once a minute, stores
its keys anew as soon as `Lives` says. A lookup sees the network as it is when it begins.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from p2pshare_protocols.kad_keys import BITS, Contact
from tests.simulation.virtual_dht import Node, VirtualNetwork

UPKEEP_EVERY = 60.0
LOOK_EVERY = 15.0


@dataclass
class Tally:
    sought: int = 0
    found: int = 0
    deaths: int = 0
    stores: int = 0
    queries: list[int] = field(default_factory=list)


class ChurningNetwork:
    """`half_life` is the median life of a node in seconds. `providers` nodes stay and provide one key each."""

    def __init__(self, count: int, *, seed: int, half_life: float, providers: int) -> None:
        self.net = VirtualNetwork(count, seed=seed)
        self.tally = Tally()
        self._mean = half_life / 0.6931
        self._serial = 0
        self._stored: dict[str, float] = {}
        self._events: list[tuple[float, int, str, Node]] = []
        rng = self.net.rng
        nodes = self.net.honest()
        self.providing = {node.contact.peer_id: rng.getrandbits(BITS) for node in rng.sample(nodes, providers)}
        for node in nodes:
            if node.contact.peer_id in self.providing:
                self._at(rng.uniform(0, 10), "store", node)
            else:
                self._at(rng.expovariate(1 / self._mean), "die", node)
            self._at(rng.uniform(0, UPKEEP_EVERY), "upkeep", node)

    def _at(self, seconds: float, what: str, node: Node) -> None:
        self._serial += 1
        heapq.heappush(self._events, (self.net.now + seconds, self._serial, what, node))

    def run(self, until: float, *, seek_from: float, seek_every: float) -> Tally:
        """Let time pass; from `seek_from` on a random node seeks a random provided key every `seek_every` seconds."""
        next_seek = seek_from
        while self._events and self._events[0][0] < until:
            moment, _, what, node = heapq.heappop(self._events)
            while next_seek < moment:
                self.net.now = next_seek
                self._seek()
                next_seek += seek_every
            self.net.now = moment
            if self.net.nodes.get(node.contact.peer_id) is node:
                getattr(self, f"_{what}")(node)
        return self.tally

    def _look_up(self, node: Node, target: int, seeds: list[Contact] | None = None) -> None:
        now = self.net.now
        self.net.look_up(node, target, seeds=seeds, greets=True)
        self.net.now = now

    def _die(self, node: Node) -> None:
        self.tally.deaths += 1
        del self.net.nodes[node.contact.peer_id]
        rng = self.net.rng
        born = self.net.add(Contact(f"c{self._serial}", rng.getrandbits(BITS), (f"/ip4/c{self._serial}",)))
        seeds = [rng.choice(list(self.net.nodes.values())).contact for _ in range(3)]
        self._look_up(born, born.contact.key, seeds)
        self._at(rng.expovariate(1 / self._mean), "die", born)
        self._at(rng.uniform(1, 10), "upkeep", born)

    def _upkeep(self, node: Node) -> None:
        for number in node.table.stale(self.net.now):
            shift = BITS - 1 - number
            target = ((node.contact.key >> shift) ^ 1) << shift | self.net.rng.getrandbits(shift)
            self._look_up(node, target)
        self._at(UPKEEP_EVERY, "upkeep", node)

    def _store(self, node: Node) -> None:
        """Store the key when it is due; look again soon."""
        now, peer_id = self.net.now, node.contact.peer_id
        if now - self._stored.get(peer_id, float("-inf")) >= node.table.lives.renew_after():
            self.tally.stores += 1
            self._stored[peer_id] = now
            self.net.provide(node, self.providing[peer_id])
            self.net.now = now
        self._at(LOOK_EVERY, "store", node)

    def _seek(self) -> None:
        rng = self.net.rng
        provider, key = rng.choice(list(self.providing.items()))
        now = self.net.now
        outcome = self.net.look_up(rng.choice(self.net.honest()), key, wanted=provider, greets=True)
        self.net.now = now
        self.tally.sought += 1
        self.tally.found += provider in outcome.providers
        self.tally.queries.append(outcome.lookup.queries)
