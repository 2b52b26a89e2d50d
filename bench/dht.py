"""The DHT in simulation: `python bench/dht.py [NODES …] [--hanging 0.2]` prints one JSON line.

Figures are virtual round trips (100 ms; an answer takes 50 to 150 ms), queries, and the share of the truly nearest 20
living nodes that a record reached.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "protocols")]

from tests.simulation.virtual_dht import VirtualNetwork, quantile  # noqa: E402


def measure(count: int, hanging: float, poisoning: float, lookups: int, seed: int) -> dict[str, float | int]:
    network = VirtualNetwork(count, seed=seed, hanging=hanging, poisoning=poisoning)
    honest = network.honest()
    for node in network.rng.sample(honest, 3):  # warms the estimate of the network's size
        network.look_up(node, network.rng.getrandbits(256))
    provides, finds, firsts, reached, queries, missed = [], [], [], [], [], 0
    for _ in range(lookups):
        provider, seeker = network.rng.sample(honest, 2)
        key = network.rng.getrandbits(256)
        stored = network.provide(provider, key)
        provides.append(stored.rounds)
        queries.append(stored.asked)
        best = {contact.peer_id for contact in network.nearest(key)}
        reached.append(len(best & {contact.peer_id for contact in stored.at}) / len(best))
        sought = network.look_up(seeker, key)
        if provider.contact.peer_id not in sought.providers:
            missed += 1
            continue
        finds.append(sought.rounds)
        firsts.append((sought.first_provider or 0.0) / 0.1)
    return {
        "nodes": count,
        "hanging": hanging,
        "poisoning": poisoning,
        "lookups": lookups,
        "provide_rounds_median": round(statistics.median(provides), 1),
        "provide_rounds_p95": round(quantile(provides, 0.95), 1),
        "first_provider_rounds_median": round(statistics.median(firsts), 1),
        "first_provider_rounds_p95": round(quantile(firsts, 0.95), 1),
        "search_end_rounds_median": round(statistics.median(finds), 1),
        "queries_median": statistics.median(queries),
        "nearest_20_reached": round(statistics.mean(reached), 4),
        "missed": missed,
        "size_estimate": round(network.size.size or 0),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", type=int, default=[1000, 10000])
    parser.add_argument("--hanging", type=float, nargs="*", default=[0.0, 0.2])
    parser.add_argument("--poisoning", type=float, default=0.0)
    parser.add_argument("--lookups", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    rows = [
        measure(count, hanging, given.poisoning, given.lookups, given.seed)
        for count in given.nodes
        for hanging in given.hanging
    ]
    print(json.dumps({"bench": "dht", "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
