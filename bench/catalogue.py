"""Search of an own catalogue of 1,000,000 items: python -m bench catalogue [--items 1000000] [--queries 400].

The items go through the store's own API. They are named after this machine's own files and directories, packages and
their descriptions. Queries are two words of a name drawn by chance, so that common words are asked for as often as
they occur in names. Figures: milliseconds of a query (p50, p99, worst), through the way that a search takes in the
daemon; the same for single common words, for endings and for types; the worst pause of the daemon's loop meanwhile.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import trio

from bench.support import report, workspace
from p2pshare.index.rows import in_threads, rows_of
from p2pshare.store import Store, open_store
from p2pshare.store.model import ItemDraft
from p2pshare_protocols import terms
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.query import parse

_BATCH = 5_000  # items a transaction
_COMMON = 40  # the commonest words that are asked for alone


def real_names(seed: int) -> Iterator[str]:
    """Distinct names without end: of packages with their summaries, of files with their directories, then of both."""
    rng = random.Random(seed)
    packages = subprocess.run(["apt-cache", "search", "."], capture_output=True, text=True, check=False)
    summaries = [line for line in packages.stdout.splitlines() if len(line) < 180]
    files: dict[str, None] = {}
    for directory, _, names in os.walk("/", topdown=True):
        if not directory.startswith(("/proc", "/sys", "/dev", "/tmp")):
            above = Path(directory).name
            files.update((f"{above} {name}", None) for name in names if name.isprintable() and len(name) < 120)
    paths = list(files)
    rng.shuffle(paths)
    yield from summaries
    yield from paths
    while True:
        yield f"{rng.choice(summaries)} {rng.choice(paths)}"


def fill(store: Store, count: int, seed: int) -> list[str]:
    """Add `count` items; returns their names."""
    names = list(islice(real_names(seed), count))
    now = time.time()
    for start in range(0, count, _BATCH):
        with store.transaction():
            for number, name in enumerate(names[start : start + _BATCH], start):
                cid = CID.of(RAW, number.to_bytes(8, "big"))
                draft = ItemDraft(cid=cid, name=name, size=number * 997 % (1 << 31), created=now - number)
                store.items.add(draft)
    return names


async def _longest_pause(seconds: list[float], stop: trio.Event) -> None:
    """How late the loop comes back from a sleep of 1 ms."""
    while not stop.is_set():
        begin = trio.current_time()
        await trio.sleep(0.001)
        seconds.append(trio.current_time() - begin - 0.001)


async def ask(store: Store, queries: list[str], limit: int) -> tuple[list[float], float]:
    """(milliseconds of each query, the loop's longest pause in ms)."""
    took: list[float] = []
    pauses: list[float] = [0.0]
    stop, run = trio.Event(), in_threads(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_longest_pause, pauses, stop)
        for text in queries:
            query = parse(text, now=time.time())
            begin = time.perf_counter()
            await rows_of(store, query, limit, peer_id="", for_strangers=False, run=run)
            took.append((time.perf_counter() - begin) * 1000)
        stop.set()
    return took, max(pauses) * 1000


def _quantile(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 2)


async def measure(store: Store, names: list[str], options: argparse.Namespace) -> None:
    rng = random.Random(options.seed)
    words = Counter(word for name in rng.sample(names, min(len(names), 50_000)) for word in terms.cut(name))
    common = [word for word, _ in words.most_common(_COMMON)]
    drawn = (terms.cut(name) for name in rng.sample(names, options.queries * 2))
    pairs = [" ".join(rng.sample(cut, 2)) for cut in drawn if len(cut) > 1]
    rows = {
        "two words of a name": pairs[: options.queries],
        "two common words": [" ".join(rng.sample(common, 2)) for _ in range(_COMMON)],
        "one common word": common,
        "a word and an ending": [f"{word} ext:py" for word in common[:10]],
        "filters alone": ["type:document", "ext:py size:>1M", "newer:1d"],
    }
    for what, queries in rows.items():
        took, pause = await ask(store, queries, 50)
        report(
            "catalogue",
            items=len(names),
            asked=what,
            queries=len(queries),
            p50_ms=round(statistics.median(took), 2),
            p99_ms=_quantile(took, 0.99),
            worst_ms=round(max(took), 2),
            loop_pause_ms=round(pause, 2),
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench catalogue")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args(arguments)
    with workspace() as directory, open_store(directory) as store:
        begin = time.perf_counter()
        names = fill(store, options.items, options.seed)
        report("catalogue-fill", seconds=round(time.perf_counter() - begin, 1), mib=store.size() >> 20)
        trio.run(measure, store, names, options)
    return 0
