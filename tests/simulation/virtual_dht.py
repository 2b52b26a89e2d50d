"""A virtual Kademlia network: the daemon's pure code under a clock that jumps. Deterministic by seed.

A node's tables are what a network that ran for a while has: of each of its buckets up to k random members. Time is
seconds; a question to a living node is answered after its latency, 50 to 150 ms, on average one ROUND.
"""

from __future__ import annotations

import bisect
import heapq
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from p2pshare_protocols.kad_keys import BITS, Contact, K
from p2pshare_protocols.kad_lookup import SEEDS, Lookup, Pace
from p2pshare_protocols.kad_region import STORE_WITHIN, SizeEstimate, bound
from p2pshare_protocols.kad_table import RoutingTable

ROUND = 0.1
HARD_LIMIT = 10.0
"""Seconds after which the caller itself gives a silent node up, as the daemon does."""


@dataclass
class Node:
    contact: Contact
    table: RoutingTable
    behaviour: str = "honest"
    """Or "hangs", "poisons" (2,000 made-up peers), "hides" (keeps nothing, names accomplices), "lies" (hides, and names
    false providers), "colludes" (names and knows other colluders only, keeps nothing)."""
    providers: dict[int, set[str]] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)


@dataclass
class Outcome:
    lookup: Lookup
    seconds: float
    providers: set[str]
    first_provider: float | None  # seconds until the first honest one was told
    first_queries: int | None  # questions sent until then

    @property
    def rounds(self) -> float:
        return self.seconds / ROUND


@dataclass
class Stored:
    seconds: float
    asked: int
    at: list[Contact]

    told: int
    """Of those asked: how many got ADD_PROVIDER in front of the question."""
    late: int
    """Of the region: how many got ADD_PROVIDER and a question that reads it back at the lookup's end."""

    @property
    def messages(self) -> int:
        """Both that make a pair count: they share a write, but cost the server twice."""
        return self.asked + self.told + 2 * self.late

    @property
    def rounds(self) -> float:
        return self.seconds / ROUND


class VirtualNetwork:
    def __init__(
        self,
        count: int,
        *,
        seed: int,
        hanging: float = 0.0,
        poisoning: float = 0.0,
        colluding: float = 0.0,
        loss: float = 0.0,
        slow: float = 0.0,
    ) -> None:
        """Shares of all nodes that hang, poison or collude; `loss` of all questions stay without an answer; `slow` of
        all answers take ten times as long."""
        self.rng = random.Random(seed)
        self.loss = loss
        self.slow = slow
        self.now = 0.0
        self.size = SizeEstimate()
        self.hiding: list[Contact] = []
        self.colluding: list[Contact] = []
        self.nodes: dict[str, Node] = {}
        for number in range(count):
            contact = Contact(f"n{number}", self.rng.getrandbits(BITS), (f"/ip4/{number}",))
            self.add(contact)
        self._fill()
        names = list(self.nodes)
        self.rng.shuffle(names)
        for behaviour, share in (("hangs", hanging), ("poisons", poisoning), ("colludes", colluding)):
            for _ in range(int(count * share)):
                self.nodes[names.pop()].behaviour = behaviour
        self.colluding = [node.contact for node in self.nodes.values() if node.behaviour == "colludes"]

    def add(self, contact: Contact) -> Node:
        node = Node(contact, RoutingTable(contact, subnets_of=frozenset))
        self.nodes[contact.peer_id] = node
        return node

    def honest(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.behaviour == "honest"]

    def nearest(self, key: int, count: int = K) -> list[Contact]:
        """What an all-knowing observer says: the living nodes nearest to a key."""
        alive = (node.contact for node in self.nodes.values() if node.behaviour != "hangs")
        return heapq.nsmallest(count, alive, key=lambda contact: contact.key ^ key)

    def _fill(self) -> None:
        ordered = sorted((node.contact for node in self.nodes.values()), key=lambda contact: contact.key)
        keys = [contact.key for contact in ordered]
        for node in self.nodes.values():
            own = node.contact.key
            for shared in range(BITS):
                shift = BITS - 1 - shared
                low = ((own >> shift) ^ 1) << shift
                members = range(bisect.bisect_left(keys, low), bisect.bisect_left(keys, low + (1 << shift)))
                for at in self.rng.sample(members, min(K, len(members))):
                    node.table.answered(ordered[at], 0.0)
                own_side = own >> shift << shift
                if bisect.bisect_left(keys, own_side + (1 << shift)) - bisect.bisect_left(keys, own_side) <= 1:
                    break

    def answer(self, server: Node, target: int) -> list[Contact]:
        if server.behaviour == "poisons":
            top = target >> 64 << 64  # nearer than any real node can be
            fakes = (Contact(f"fake{self.rng.getrandbits(64)}", top | self.rng.getrandbits(64)) for _ in range(2000))
            return list(fakes)
        if server.behaviour in ("hides", "lies"):
            return heapq.nsmallest(K, self.hiding, key=lambda contact: contact.key ^ target)
        if server.behaviour == "colludes":
            return heapq.nsmallest(K, self.colluding, key=lambda contact: contact.key ^ target)
        return server.table.closest(target, K)

    def surround(self, target: int, count: int, *, behaviour: str = "hides", spread: bool = False) -> None:
        """Real nodes of one attacker, made for `target`, known to whoever has room for them.

        Nearer to it than any honest node; or `spread` over the distances of the nearest honest ones as honest nodes
        would be, so that their number is all that gives them away.
        """
        reach = int(len(self.honest()) ** -1 * (1 << BITS) * K) if spread else 1 << 200
        self.hiding = [
            Contact(f"hides{n}-{target & 0xFFFF}", target ^ self.rng.randrange(reach), (f"/ip4/h{n}",))
            for n in range(count)
        ]
        for contact in self.hiding:
            for node in self.nodes.values():
                node.table.answered(contact, self.now)
        for contact in self.hiding:
            self.add(contact).behaviour = behaviour

    def leave(self) -> None:
        """The attacker's nodes are gone, also from all tables."""
        for contact in self.hiding:
            del self.nodes[contact.peer_id]
            for node in self.nodes.values():
                node.table.remove(contact.peer_id)
        self.hiding = []

    def told(self, server: Node, target: int) -> set[str]:
        if server.behaviour == "lies":
            return {f"false{server.contact.peer_id}-{n}" for n in range(K)}
        return server.providers.get(target, set())

    def look_up(
        self,
        asker: Node,
        target: int,
        *,
        seeds: Sequence[Contact] | None = None,
        paths: int = 1,
        wanted: str | None = None,
        greets: bool = False,
        store: set[str] | None = None,
        poor_paths: int = 1,
    ) -> Outcome:
        """One lookup by `asker`, alone on the network, from now on; moves the clock to its end.

        With `wanted` it ends when that provider has been named, as a search does once one really serves. With
        `greets` those that are asked learn of the asker, as the daemon does. With `store`, who is near enough when it
        is asked is entered there and keeps a record of the asker. A search that named nobody who serves goes on as
        `poor_paths` disjoint ones, as the daemon's does.
        """
        begun = self.now
        found: set[str] = set()
        first: float | None = None
        first_queries: int | None = None
        region = bound(self.size.size)
        lookup = Lookup(
            target,
            seeds if seeds is not None else asker.table.closest(target, SEEDS),
            own_id=asker.contact.peer_id,
            pace=asker.pace,
            paths=paths,
            bound=region,
            salt=self.rng.randbytes(16),
        )
        events: list[tuple[float, int, str, bool]] = []
        serial = 0
        while True:
            for contact in lookup.next_queries(self.now):
                server = self.nodes.get(contact.peer_id)
                lives = server is not None and server.behaviour != "hangs" and self.rng.random() >= self.loss
                delay = self.rng.uniform(0.5 * ROUND, 1.5 * ROUND) if lives else HARD_LIMIT
                if lives and self.slow and self.rng.random() < self.slow:
                    delay *= 10
                if store is not None and contact.key ^ target < STORE_WITHIN * region:
                    store.add(contact.peer_id)
                serial += 1
                heapq.heappush(events, (self.now + delay, serial, contact.peer_id, lives))
            if lookup.done:
                lookup.widen(poor_paths if first is None else 1)
                if lookup.done:
                    break
                continue
            deadline = lookup.next_deadline()
            if events and (deadline is None or events[0][0] <= deadline):
                self.now, _, peer_id, lives = heapq.heappop(events)
                if lives:
                    server = self.nodes[peer_id]
                    if store is not None and peer_id in store:
                        self._keep(server, target, asker)
                    told = self.told(server, target)
                    if first is None and any(not name.startswith("false") for name in told):
                        first, first_queries = self.now - begun, lookup.queries
                    found |= told
                    lookup.on_reply(peer_id, self.answer(server, target), self.now)
                    asker.table.answered(server.contact, self.now)
                    if greets:
                        server.table.answered(asker.contact, self.now)
                    if wanted is not None and wanted in found:
                        break
                else:
                    lookup.on_failure(peer_id, self.now)
                    asker.table.failed(peer_id, self.now)
            else:
                assert deadline is not None
                self.now = deadline
        for _, _, peer_id, lives in events:  # a question outlives its lookup
            if not lives:
                asker.table.failed(peer_id, self.now)
        asker.table.looked_up(target, self.now)
        if not self.hiding:  # else: a node's estimate comes from its other lookups
            self.size.add(target, [contact.key ^ target for contact in lookup.found(K)])
        return Outcome(lookup, self.now - begun, found, first, first_queries)

    def provide(self, provider: Node, target: int, *, paths: int = 1) -> Stored:
        """As the daemon does: who is near keeps the record with the question, the rest of the region at the end."""
        told: set[str] = set()
        outcome = self.look_up(provider, target, paths=paths, store=told)
        region = outcome.lookup.region()
        late = [contact for contact in region if contact.peer_id not in told]
        for contact in late:
            self._keep(self.nodes[contact.peer_id], target, provider)
        seconds = outcome.seconds + max((self.rng.uniform(0.5, 1.5) * ROUND for _ in late), default=0.0)
        return Stored(seconds, outcome.lookup.queries, region, told=len(told), late=len(late))

    @staticmethod
    def _keep(server: Node, target: int, provider: Node) -> None:
        if server.behaviour not in ("hides", "lies", "colludes"):
            server.providers.setdefault(target, set()).add(provider.contact.peer_id)


def quantile(values: Iterable[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
