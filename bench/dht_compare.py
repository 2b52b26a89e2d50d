"""Provide and find on 30 nodes on loopback: ours, libp2p 0.8.1's kad_dht, js-libp2p's kad-dht, and hyperdht.

One run, one after the other. Ours are 30 processes, each with its own sockets and store; of the others all nodes are in
one process, which spares them the switches between processes, but is one core. Provide: until the call says that the
record is stored; ours has been read back by then, the others do not read back. Find: until the first provider, at
another node. hyperdht speaks UDP and one round trip without a stream. What cannot be installed is left out, with a
reason.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.dht_real import Node
from bench.support import median, report
from tests.interop import install

HERE = Path(__file__).parent / "dht_others"
SECONDS = 600
Timings = dict[str, Any]


def ours(count: int, runs: int) -> Timings:
    rng = random.Random(1)
    provides, finds, missed = [], [], 0
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(number)) for number in range(1, count + 1)]
        addresses = [str(node.answer()["address"]) for node in nodes]
        for node in nodes[1:]:
            node.do("join", addresses[0])
        time.sleep(12)  # two rounds of looking for themselves, so that all know all
        for at, node in enumerate(nodes):
            node.do("provide", f"warm {at}")
        for run in range(runs):
            provider, seeker = rng.sample(nodes, 2)
            provides.append(1000 * provider.do("provide", f"key {run}")["seconds"])
            found = seeker.do("first", f"key {run}")
            finds.append(1000 * found["seconds"])
            missed += not found["found"]
    return {"provide_ms": provides, "find_ms": finds, "missed": missed}


def py_libp2p(count: int, runs: int) -> Timings:
    return _run([sys.executable, str(HERE / "py_libp2p.py"), str(count), str(runs)])


def js_libp2p(count: int, runs: int) -> Timings:
    return _node(install.install(), "js_libp2p.mjs", count, runs)


def hyperdht(count: int, runs: int) -> Timings:
    return _node(install.install(HERE / "package.json"), "hyperdht.cjs", count, runs)


def _node(there: install.Installed, script: str, count: int, runs: int) -> Timings:
    """Node looks for packages beside the script."""
    beside = there.packages / script
    shutil.copy(HERE / script, beside)
    return _run([str(there.node), str(beside), str(count), str(runs)])


def _run(command: Sequence[str]) -> Timings:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-300:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


PEERS: dict[str, Callable[[int, int], Timings]] = {
    "p2pshare": ours,
    "libp2p": py_libp2p,
    "js-libp2p": js_libp2p,
    "hyperdht": hyperdht,
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench dht-compare", description=__doc__)
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--runs", type=int, default=30)
    given = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name, measure in PEERS.items():
        try:
            timings = measure(given.nodes, given.runs)
        except (install.CannotInstall, RuntimeError, subprocess.TimeoutExpired, OSError) as error:
            skipped[name] = str(error)
            continue
        figures[name] = {
            "provide_ms_p50": median(timings["provide_ms"]),
            "find_ms_p50": median(timings["find_ms"]),
            "missed": timings["missed"],
        }
    return report("dht-compare", nodes=given.nodes, runs=given.runs, **figures, skipped=skipped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
