"""Keyword search with 30 real daemons on loopback: python -m bench index-real [--nodes 30] [--items 10000].

Items are named after this machine's own files (its packages' lists, /usr/share/doc) and published among the daemons;
then some that published nothing ask. Asked for: a first result within 300 ms and the end within 1.5 s, recall of 100 %
over 200 queries, and of 99 % for what a killed third of the nodes had published; 10,000 items' postings placed in 60 s
with under half a core; the words of one new item findable within 2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.support import cpu_seconds, report
from p2pshare_protocols import terms
from p2pshare_protocols.places import places_under
from tests.support_nodes import RealNode, bootstrap, running

ASKERS = 4
ROWS = 1000
_OPEN = (  # what of a catalogue has yet to be done
    "jobs WHERE state IN ('queued', 'running')",
    "items WHERE id NOT IN (SELECT item FROM own_items)",
    "own_postings WHERE placed = 0",
)
PAUSE = 0.5 / ASKERS  # seconds between questions: a node answers two a second of one peer


def names(count: int, seed: int) -> list[str]:
    """Distinct names with two words or more: of the files of the installed packages, and under /usr/share/doc."""
    paths = [Path(line) for one in Path("/var/lib/dpkg/info").glob("*.list") for line in one.read_text().splitlines()]
    paths += [Path(directory, file) for directory, _, files in os.walk("/usr/share/doc") for file in files]
    found = {f"{path.parent.name}-{path.name}" for path in paths if "." in path.name}
    good = [name for name in found if len(terms.cut(name)) >= 2 and len(name) < 100 and name.isprintable()]
    return random.Random(seed).sample(sorted(good), min(count, len(good)))


def call(home: Path, method: str, **params: Any) -> Iterator[tuple[float, dict[str, Any]]]:
    """(seconds since the question, event or result) over the control socket."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(places_under(str(home)).socket)
        begin = time.perf_counter()
        line.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
        for answer in line.makefile("rb"):
            message = json.loads(answer)
            now = time.perf_counter() - begin
            if message.get("method") == "stream":
                yield now, message["params"]["event"]
            else:
                yield now, message.get("result", message)
                return


class Questions:
    """Two words of a name, or as many more as leave at most ROWS names that match: what is beyond is not told.

    "" when none do.
    """

    def __init__(self, names: Sequence[str], rng: random.Random) -> None:
        self._rng = rng
        self._under: dict[str, set[str]] = {}
        for name in names:
            for word in terms.cut(name):
                self._under.setdefault(word, set()).add(name)

    def of(self, name: str) -> str:
        words = [word for word in terms.cut(name) if len(word) > 2] or terms.cut(name)
        self._rng.shuffle(words)
        count = min(2, len(words))
        while count < len(words) and len(set.intersection(*(self._under[word] for word in words[:count]))) > ROWS:
            count += 1
        few = len(set.intersection(*(self._under[word] for word in words[:count]))) <= ROWS
        return " ".join(words[:count]) if few else ""


def recall(askers: Sequence[RealNode], wanted: Sequence[str], questions: Questions, queries: int) -> dict[str, Any]:
    firsts, ends, missed, partial = [], [], [], 0
    asked = [(name, query) for name in wanted if (query := questions.of(name))][:queries]
    for number, (name, query) in enumerate(asked):
        found, first = False, None
        for now, event in call(askers[number % len(askers)].home, "search", query=query, limit=ROWS):
            if event.get("event") == "result":
                first = now if first is None else first
                found |= event["name"] == name
            elif "error" in event:
                raise RuntimeError(f"a search failed: {event['error']}")
            else:
                ends.append(now)
                partial += not event.get("complete")
        if first is not None:
            firsts.append(first)
        if not found:
            missed.append(query)
        time.sleep(PAUSE)
    return {
        "queries": len(asked),
        "recall": round(1 - len(missed) / len(asked), 4),
        "first_s": _spread(firsts),
        "complete_s": _spread(ends),
        "said_incomplete": partial,
        "missed": missed[:5],
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"p50": round(statistics.median(values), 4), "p95": round(sorted(values)[int(len(values) * 0.95)], 4)}


def settle(nodes: Sequence[RealNode], begin: float, limit: float) -> float | None:
    """Seconds until no publisher has a word waiting, read from their catalogues; None when it took longer."""
    while time.perf_counter() - begin < limit:
        waiting = 0
        for node in nodes:
            where = f"file:{places_under(str(node.home)).catalogue}/catalogue.sqlite?mode=ro"
            with closing(sqlite3.connect(where, uri=True)) as base:
                waiting += sum(base.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in _OPEN)
        if not waiting:
            return round(time.perf_counter() - begin, 2)
        time.sleep(0.5)
    return None


def new_item(publisher: RealNode, asker: RealNode, directory: Path) -> dict[str, Any]:
    """One file shared while all is quiet: until it is found by a word that only it has, and until all words stand."""
    found, placed = [], []
    for number in range(5):
        word = f"quokka{chr(97 + number)}zebu"
        path = directory / f"{word}-lecture.mp4"
        path.write_text(word)
        begin = time.perf_counter()
        publisher.run("share", "--wait", "none", "--detach", str(path))
        while not any(event.get("event") == "result" for _, event in call(asker.home, "search", query=word)):
            if time.perf_counter() - begin > 30:
                return {"findable_s": None}
            time.sleep(0.05)
        found.append(time.perf_counter() - begin)
        placed.append(settle([publisher], begin, 30) or 30.0)
        time.sleep(2)
    return {"findable_s": _spread(found), "placed_s": _spread(placed)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench index-real", description=__doc__)
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    rng = random.Random(given.seed)
    # On the disk: 30 catalogues do not belong into memory, and what a person's catalogue costs is on a disk too.
    with tempfile.TemporaryDirectory(prefix="p2pshare-bench-") as made:
        place = Path(made)
        nodes = [RealNode(place / f"home-{number}") for number in range(given.nodes)]
        askers, publishers = nodes[:ASKERS], nodes[ASKERS:]
        wanted = names(given.items, given.seed)
        with running(*nodes):
            askers[0].start()
            first = bootstrap(askers[0].address())
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda node: node.start(first), nodes[1:]))
            figures = _measure(place, askers, publishers, wanted, given.queries, rng)
    return report("index-real", nodes=given.nodes, items=len(wanted), **figures)


def _measure(
    place: Path,
    askers: Sequence[RealNode],
    publishers: Sequence[RealNode],
    wanted: Sequence[str],
    queries: int,
    rng: random.Random,
) -> dict[str, Any]:
    shares = []
    for number in range(len(publishers)):
        directory = place / f"share-{number}"
        directory.mkdir()
        for name in wanted[number :: len(publishers)]:
            (directory / name).write_text(name)
        shares.append(directory)
    everyone = [*askers, *publishers]
    pids = [node.pid for node in everyone]
    time.sleep(10)  # rounds of looking for themselves, so that all know all
    before, begin = sum(map(cpu_seconds, pids)), time.perf_counter()
    for node, directory in zip(publishers, shares, strict=True):
        node.run("share", "--detach", str(directory))
    placed = settle(publishers, begin, 300)
    used = sum(map(cpu_seconds, pids)) - before
    print(json.dumps({"placed_s": placed, "core_s_of_all": round(used, 1)}), flush=True)
    questions = Questions(wanted, rng)
    up = recall(askers, rng.sample(list(wanted), len(wanted)), questions, queries)
    print(json.dumps(up), flush=True)
    one = new_item(publishers[-1], askers[1], place)
    gone = len(everyone) // 3
    for node in publishers[:gone]:
        node.kill()
    theirs = [name for number in range(gone) for name in wanted[number :: len(publishers)]]
    killed = recall(askers, rng.sample(theirs, len(theirs)), questions, queries)
    return {
        "placed_s": placed,
        "core_s_of_all": round(used, 1),
        "core_s_a_node": round(used / len(everyone), 2),
        "all_up": up,
        "one_new_item": one,
        "third_killed": killed,
    }


if __name__ == "__main__":
    sys.exit(main())
