"""Keyword search in simulation, up to 10,000 nodes and 1,000,000 items: python -m bench index --nodes 10000.

Items have real names (this machine's packages and files, and lists that are given), 100 for each node, the largest
publisher a tenth of them; the words of queries are drawn from names. One JSON line a network; the rows that do not
depend on its size (churn, spam, Sybils, liars) come once, with --rows. Needs numpy, and matplotlib for --plot.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import index_rows as rows
from bench.index_check import compare
from bench.index_model import Model
from bench.index_names import owners, real_names

ITEMS = 100  # for each node
SEARCHES = 0.17  # of each node in a window of ten minutes: one an hour


def network(given: argparse.Namespace, nodes: int) -> dict[str, Any]:
    """Every row that depends on the size."""
    rng = random.Random(given.seed)
    count = given.items or ITEMS * nodes
    names = real_names(count, given.names, given.seed)
    model = Model(names, owners(names, max(10, nodes // 2), 0.1, given.seed), room=given.room)
    kept = copy.copy(model)
    kept.named = ~model.beyond
    asked = rows.queries(model, given.queries, rng)
    searches = int(SEARCHES * nodes)
    return {
        "items": count,
        "placements": 8 * sum(model.lists.values()),
        "words_over_their_room": len(model.full),
        "recall": rows.recall(model, asked),
        "both_words_over_their_room_top_20": rows.both_common(model, 20, rng),
        "archive_by_own_words": rows.archive(model, min(given.queries, 1000), rng),
        "archive_were_pointers_kept": rows.archive(kept, min(given.queries, 1000), rng),
        "recall_were_pointers_kept": rows.recall(kept, asked),
        "load": rows.load(model, nodes, asked, searches, given.seed),
    }


def others(given: argparse.Namespace) -> dict[str, Any]:
    """The rows of churn, spam, Sybils and liars, as built and with the mends that are known."""
    seed = given.seed
    found: dict[str, Any] = {}
    for life, sweep, enough in ((24, 24, 8), (24, 24, 5), (4, 24, 8), (4, 12, 8)):
        for back in (0.95, 0.8):
            churned = rows.churn(life, sweep, back, seed, enough=enough)
            key = f"200,000 items, servers live {life} h, {back:.0%} come again, swept every {sweep} h"
            found[key + f", sent where under {enough} have them"] = rows.upkeep(churned, 200_000, 9.8, 10_000)
    found["spam, a /24 on a popular word"] = rows.spam(2000, 12, 1, 1000, 100_000, seed)
    found["spam, a /24 on a rare word"] = rows.spam(15, 3, 1, 1000, 100_000, seed)
    found["spam, 50 /24s on a popular word"] = rows.spam(2000, 8, 50, 1000, 40_000, seed)
    for spread in (False, True):
        name = "60 Sybils spread as honest nodes are" if spread else "60 Sybils nearest to the key"
        found[name] = rows.sybils(1000, 60, 300, seed, spread=spread)
        found[f"{name}, shifted targets"] = rows.sybils(1000, 60, 300, seed, spread=spread, shifted=True)
    found["3 of 8 lie in agreement"] = rows.liars(3, 5000, seed)
    return found


def plot(measured: Sequence[tuple[int, dict[str, Any]]], path: Path) -> None:
    """Load and recall against size, as PNG. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5))
    sizes = [size for size, _ in measured]
    for count in (1, 2, 3):
        told = [100 * row["recall"].get(f"words_{count}", 1) for _, row in measured]
        left.plot(sizes, told, "o-", label=f"{count} word" + "s" * (count > 1))
    left.plot(sizes, [100 * row["archive_by_own_words"]["found"] for _, row in measured], "o--", label="of an archive")
    left.set(xscale="log", xlabel="nodes", ylabel="found, %", ylim=(90, 100.5))
    left.legend()
    for key, label in (
        ("storage_busiest", "storage"),
        ("queries_busiest_as_built", "questions as built"),
        ("queries_busiest_head_first", "questions, the word's own list first"),
    ):
        right.plot(sizes, [row["load"][key] for _, row in measured], "o-", label=label)
    right.set(xscale="log", xlabel="nodes", ylabel="busiest node, times the mean", ylim=(0, None))
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench index", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--items", type=int, default=0, help="in place of 100 for each node")
    parser.add_argument("--names", type=Path, nargs="*", default=[], help="lists of names, tab-separated")
    parser.add_argument("--room", type=int, default=20_000, help="postings of one word at one node")
    parser.add_argument("--queries", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", action="store_true", help="churn, spam, Sybils and liars too")
    parser.add_argument("--check", action="store_true", help="only: the model against the daemon's own code")
    parser.add_argument("--plot", type=Path, help="write load and recall against size to this PNG")
    given = parser.parse_args(arguments)
    if given.check:
        names = real_names(50_000, given.names, given.seed)
        apart = compare(names, owners(names, 500, 0.1, given.seed), 1000, room=2000, questions=300)
        print(json.dumps({"figure": "index", "check": "50,000 items, 1,000 nodes", **apart}), flush=True)
        return 0
    measured = []
    for nodes in given.nodes:
        begun = time.process_time()
        measured.append((nodes, network(given, nodes)))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        spent = {"cpu_seconds": round(time.process_time() - begun, 1), "memory_MiB": memory}
        print(json.dumps({"figure": "index", "nodes": nodes, **measured[-1][1], **spent}), flush=True)
    if given.rows:
        print(json.dumps({"figure": "index", **others(given)}), flush=True)
    if given.plot is not None:
        plot(measured, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
