"""The DHT in simulation: the table of figures (--table), or one network of your own making.

The daemon's pure code under virtual time, repeatable by --seed. A question is answered after 50 to 150 ms, so that a
round trip takes 0.1 s on average. "Queries to the first provider" is what a search costs until it has an answer: the
searcher of a file goes on only until a provider serves it. "To the end" is the whole region, at least 20 nodes by
design, which only a store or a search that finds nobody pays.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.simulation.churn import ChurningNetwork
from tests.simulation.measure import measure
from tests.simulation.virtual_dht import VirtualNetwork

Asked = str
SYBILS = (("silent", "hides", False), ("naming false providers", "lies", False), ("spread", "hides", True))


def network(given: argparse.Namespace, count: int, **more: float) -> VirtualNetwork:
    shares = {"hanging": given.hanging, "poisoning": given.poisoning, "colluding": given.colluding}
    return VirtualNetwork(count, seed=given.seed, **{**shares, "loss": given.loss, "slow": given.slow, **more})


def churn(count: int, half_life: float, seconds: float, seed: int) -> dict[str, Any]:
    tally = ChurningNetwork(count, seed=seed, half_life=half_life, providers=50).run(
        seconds, seek_from=20.0, seek_every=0.25
    )
    return {
        "lookups": tally.sought,
        "found_percent": round(100 * tally.found / tally.sought, 2),
        "queries_to_first_provider_p50": median(tally.queries),
        "deaths": tally.deaths,
        "stores": tally.stores,
    }


def one(given: argparse.Namespace, count: int) -> dict[str, Any]:
    if given.churn:
        return churn(count, given.churn, given.seconds, given.seed)
    behaviour = {"silent": "hides", "false": "lies", "spread": "hides"}[given.sybil_kind]
    row = measure(
        network(given, count),
        given.lookups,
        paths=given.paths,
        sybils=given.sybils,
        behaviour=behaviour,
        spread=given.sybil_kind == "spread",
    )
    return row.figures()


def table(given: argparse.Namespace) -> Iterator[tuple[str, Asked, dict[str, Any]]]:
    """Every row of the figures that issue 5 asks for, at its size."""
    for count in (100, 1000, 10_000):
        lookups = 1000 if count > 100 else 300
        asked = "99.9 % found, median 20 queries or fewer, grows with log n"
        yield f"{count} nodes", asked, measure(network(given, count), lookups).figures()
    healthy = measure(network(given, 1000), 500).figures()
    yield "half dead", "99 % found", measure(network(given, 1000, hanging=0.5), 500).figures()
    hanging = measure(network(given, 1000, hanging=0.2), 500).figures()
    for what in ("first_provider", "end"):
        key = f"round_trips_to_{what}_p95"
        hanging[f"times_healthy_{what}_p95"] = round(hanging[key] / healthy[key], 2)
    yield "a fifth hang", "p95 under 2 x healthy", hanging
    yield "median life 1 minute", "99 % found", churn(1000, 60.0, given.seconds, given.seed)
    colluding = measure(network(given, 1000, colluding=0.5), 500, paths=2).figures()
    yield "half collude, 2 paths", "99 % found, 45 queries or fewer", colluding
    for count in (20, 60):
        for name, behaviour, spread in SYBILS:
            row = measure(network(given, 1000), 100, sybils=count, behaviour=behaviour, spread=spread).figures()
            row["messages_times_without"] = round(row["messages_a_store_mean"] / healthy["messages_a_store_mean"], 2)
            yield f"{count} Sybils, {name}", "99 % found, messages 2 x or fewer", row
    for name, share in (("1 poisoner", 0.001), ("100 poisoners", 0.1)):
        world = network(given, 1000, poisoning=share)
        row = measure(world, 200).figures()
        row["made_up_in_tables"] = sum(c.peer_id not in world.nodes for n in world.honest() for c in n.table)
        yield f"{name} with 2,000 made-up peers a reply", "95 % right; table keeps none of them", row


def plot(rows: Sequence[tuple[int, dict[str, Any]]], path: Path) -> None:
    """Success and cost against size, as PNG. Needs matplotlib, which nothing else here does: pip install matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5))
    sizes = [size for size, _ in rows]
    left.plot(sizes, [row["found_percent"] for _, row in rows], "o-")
    left.set(xscale="log", xlabel="nodes", ylabel="found, %", ylim=(90, 100.5))
    for key, label in (
        ("messages_a_store_mean", "messages of a store, mean"),
        ("queries_to_end_p50", "queries to the end, median"),
        ("queries_to_first_provider_p50", "queries to the first provider, median"),
    ):
        right.plot(sizes, [row[key] for _, row in rows], "o-", label=label)
    right.set(xscale="log", xlabel="nodes", ylabel="messages", ylim=(0, 80))
    right.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench dht", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--lookups", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hanging", type=float, default=0.0, help="share of nodes that are dead or never answer")
    parser.add_argument("--poisoning", type=float, default=0.0, help="share that answers with 2,000 made-up peers")
    parser.add_argument("--colluding", type=float, default=0.0, help="share that names only itself")
    parser.add_argument("--loss", type=float, default=0.0, help="share of questions without an answer")
    parser.add_argument("--slow", type=float, default=0.0, help="share of answers that take ten times as long")
    parser.add_argument("--churn", type=float, default=0.0, help="median life of a node in seconds; 0 is for ever")
    parser.add_argument("--seconds", type=float, default=240.0, help="virtual time, with --churn")
    parser.add_argument("--sybils", type=int, default=0, help="nodes made for each key")
    parser.add_argument("--sybil-kind", choices=["silent", "false", "spread"], default="silent")
    parser.add_argument("--paths", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="every row that is promised, instead of one network")
    parser.add_argument("--plot", type=Path, help="write success and cost against size to this PNG")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = options(arguments)
    if given.table:
        for name, asked, figures in table(given):
            print(json.dumps({"figure": "dht", "row": name, "asked": asked, **figures}), flush=True)
        return 0
    rows = []
    for count in given.nodes:
        begun = time.monotonic()
        rows.append((count, one(given, count)))
        spent = round(time.monotonic() - begun, 1)
        print(json.dumps({"figure": "dht", "nodes": count, **rows[-1][1], "bench_seconds": spent}), flush=True)
    if given.plot is not None:
        plot(rows, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
