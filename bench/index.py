"""Keyword search through the DHT with real daemons on loopback: python -m bench index [--nodes 10] [--items 2000].

Items are named after this machine's own files (/usr/share/doc). They are published among the daemons; then one that
published nothing asks for them. Figures: seconds until all words are placed and the processor time of it, seconds to a
first result and to the end of a search over the control socket, recall over queries of two words; then the same for
items whose publishers, a third of the daemons, were killed: only the postings can tell them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.support import cpu_seconds, report, workspace
from p2pshare_protocols import terms
from p2pshare_protocols.places import places_under
from tests.support_nodes import RealNode, bootstrap, running


def names(count: int, seed: int) -> list[str]:
    """Distinct names with two words or more, made of the paths under /usr/share."""
    found: dict[str, None] = {}
    for directory, _, files in os.walk("/usr/share"):
        for file in files:
            name = f"{Path(directory).name}-{file}"
            if len(terms.cut(name)) >= 2 and len(name) < 100 and name.isprintable():
                found[name] = None
    return random.Random(seed).sample(sorted(found), min(count, len(found)))


def ask(home: Path, **params: Any) -> Iterator[tuple[float, dict[str, Any]]]:
    """(seconds since the question, event) of one search over the control socket."""
    base = {"sort": "score", "limit": 50, "timeout": 10.0, "local": False, "explain": False}
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(places_under(str(home)).socket)
        begin = time.perf_counter()
        request = {"jsonrpc": "2.0", "id": 1, "method": "search", "params": base | params}
        line.sendall(json.dumps(request).encode() + b"\n")
        for answer in line.makefile("rb"):
            message = json.loads(answer)
            now = time.perf_counter() - begin
            if message.get("method") == "stream":
                yield now, message["params"]["event"]
            else:
                yield now, message.get("result", message)
                return


def query_of(name: str, rng: random.Random) -> str:
    words = [word for word in terms.cut(name) if len(word) > 2] or terms.cut(name)
    return " ".join(rng.sample(words, min(2, len(words))))


def recall(home: Path, wanted: Sequence[str], rng: random.Random) -> dict[str, Any]:
    firsts, ends, hits, problems = [], [], 0, []
    for name in wanted:
        query, found = query_of(name, rng), False
        for now, event in ask(home, query=query, limit=1000):
            if event.get("event") == "result":
                firsts.append(now) if not found and event["name"] == name else None
                found |= event["name"] == name
            else:
                ends.append(now)
        hits += found
        if not found:
            problems.append(query)
        time.sleep(0.5)  # a node answers two questions a second of one peer
    return {
        "recall": round(hits / len(wanted), 4),
        "first_median": round(statistics.median(firsts), 4) if firsts else None,
        "first_p95": round(sorted(firsts)[int(len(firsts) * 0.95)], 4) if firsts else None,
        "complete_median": round(statistics.median(ends), 4),
        "complete_p95": round(sorted(ends)[int(len(ends) * 0.95)], 4),
        "missed": problems[:5],
    }


def settle(nodes: Sequence[RealNode], begin: float, limit: float) -> float:
    """Seconds until no publisher has a word waiting, read from their catalogues."""
    import sqlite3

    while time.perf_counter() - begin < limit:
        waiting = 0
        for node in nodes:
            where = f"file:{node.home}/catalogue/catalogue.sqlite?mode=ro"
            with sqlite3.connect(where, uri=True) as base:
                waiting += base.execute("SELECT count(*) FROM own_postings WHERE placed = 0").fetchone()[0]
        if not waiting:
            break
        time.sleep(0.25)
    return time.perf_counter() - begin


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    rng = random.Random(given.seed)
    with workspace() as place:
        nodes = [RealNode(place / f"home-{number}") for number in range(given.nodes)]
        asker, *publishers = nodes
        all_names = names(given.items, given.seed)
        with running(*nodes):
            asker.start()
            for node in publishers:
                node.start(bootstrap(asker.address()))
            shares = []
            for number in range(len(publishers)):
                directory = place / f"share-{number}"
                directory.mkdir()
                for name in all_names[number :: len(publishers)]:
                    (directory / name).write_text(name)
                shares.append(directory)
            before = {node: cpu_seconds(node.pid) for node in nodes}
            begin = time.perf_counter()
            for node, directory in zip(publishers, shares, strict=True):
                node.run("share", str(directory))
            shared = time.perf_counter() - begin
            placed = settle(publishers, begin, 300)
            used = sum(cpu_seconds(node.pid) - before[node] for node in nodes)
            up = recall(asker.home, rng.sample(all_names, min(given.queries, len(all_names))), rng)
            gone = len(nodes) // 3
            for node in publishers[:gone]:
                node.kill()
            theirs = [name for number in range(gone) for name in all_names[number :: len(publishers)]]
            killed = recall(asker.home, rng.sample(theirs, min(given.queries, len(theirs))), rng)
    return report(
        "index",
        nodes=given.nodes,
        items=len(all_names),
        shared_seconds=round(shared, 2),
        placed_seconds=round(placed, 2),
        processor_seconds_of_all=round(used, 2),
        all_up=up,
        third_killed=killed,
    )


if __name__ == "__main__":
    sys.exit(main())
