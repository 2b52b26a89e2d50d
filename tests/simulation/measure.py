"""One row of figures from the virtual network: what is provided is sought by another node."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean, median

from tests.simulation.virtual_dht import ROUND, VirtualNetwork, quantile


@dataclass
class Row:
    """Times are seconds of virtual time; one round trip takes 0.05 to 0.15."""

    lookups: int = 0
    found: int = 0
    first_queries: list[int] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    end_queries: list[int] = field(default_factory=list)
    end_seconds: list[float] = field(default_factory=list)
    store_messages: list[int] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.found / self.lookups

    def figures(self) -> dict[str, float | int]:
        return {
            "lookups": self.lookups,
            "found_percent": round(100 * self.share, 2),
            "queries_to_first_provider_p50": median(self.first_queries),
            "queries_to_first_provider_p95": quantile(self.first_queries, 0.95),
            "queries_to_end_p50": median(self.end_queries),
            "round_trips_to_first_provider_p50": round(median(self.first_seconds) / ROUND, 2),
            "round_trips_to_first_provider_p95": round(quantile(self.first_seconds, 0.95) / ROUND, 2),
            "round_trips_to_end_p50": round(median(self.end_seconds) / ROUND, 2),
            "round_trips_to_end_p95": round(quantile(self.end_seconds, 0.95) / ROUND, 2),
            "messages_a_store_mean": round(mean(self.store_messages), 1),
            "nearest_20_reached_percent": round(100 * mean(self.reached), 2),
        }


def measure(
    network: VirtualNetwork,
    lookups: int,
    *,
    paths: int = 1,
    poor_paths: int = 1,
    sybils: int = 0,
    behaviour: str = "hides",
    spread: bool = False,
) -> Row:
    """`lookups` keys, each provided by one honest node and then sought by another, to the end of its lookup.

    `paths` are those of a store and of a search; with `poor_paths` a search has so many only when it came back poor.
    With `sybils`, so many of an attacker's nodes stand at each key before it is provided; they are gone at the next.
    """
    row = Row(lookups)
    honest = network.honest()
    for node in network.rng.sample(honest, 5):  # how big the network is, from lookups of other keys
        network.look_up(node, network.rng.getrandbits(256))
    for _ in range(lookups):
        provider, seeker = network.rng.sample(honest, 2)
        key = network.rng.getrandbits(256)
        if sybils:
            network.surround(key, sybils, behaviour=behaviour, spread=spread)
        stored = network.provide(provider, key, paths=paths)
        sought = network.look_up(seeker, key, paths=1 if poor_paths > 1 else paths, poor_paths=poor_paths)
        best = {contact.peer_id for contact in network.nearest(key)}
        row.reached.append(len(best & {contact.peer_id for contact in stored.at}) / len(best))
        row.store_messages.append(stored.messages)
        row.end_queries.append(sought.lookup.queries)
        row.end_seconds.append(sought.seconds)
        if provider.contact.peer_id in sought.providers:
            row.found += 1
            row.first_queries.append(sought.first_queries or 0)
            row.first_seconds.append(sought.first_provider or 0.0)
        if sybils:
            network.leave()
    return row
