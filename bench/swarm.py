"""Whole fetches from several limited sources, with stalls, and from one over long paths against nginx and curl.

    python -m bench swarm [--runs N] [--size MIB]

Real daemons, files on tmpfs. `four`: four sources on loopback, each limited to 20 MB/s, as a share of their sum.
`stalling`: one of them is stopped for 0.5 s in every 3. `dead`: one is stopped for 5 s in every 10, from its first half
second on; a share of what the others give, and it while it runs. `path_*` (root, gcc, nginx, curl): one source over a
path of 20 MB/s of bench/emulator, from the request to the renamed file, the dial included, each followed by curl with
TLS 1.3 on the same path.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.emulator import FAR_ADDRESS, NEAR_ADDRESS, LongPath, Shape, long_path, missing
from bench.paths import _curl, _nginx
from bench.support import MIB, median, options, report, workspace, write_file
from bench.transfer import timed_job
from p2pshare_cli.client import Client
from tests.support_nodes import RealNode, running

RATE = 20e6
SOURCES = 4
STALLS = {"four": (0.0, 0.0), "stalling": (0.5, 3.0), "dead": (5.0, 10.0)}  # stopped for, in every: seconds
SHAPES = {
    "200ms": Shape(RATE, 0.2),
    "200ms_1%": Shape(RATE, 0.2, 0.01),
    "200ms_5%": Shape(RATE, 0.2, 0.05),
    "40ms_0.1%": Shape(RATE, 0.04, 0.001),
}


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments, runs=3)
    size = given.size * MIB
    figures: dict[str, Any] = {}
    with workspace() as base:
        source = write_file(base / "source.bin", "swarm", size)
        for name, (stopped, every) in STALLS.items():
            runs = [_from_four(base / "run", source, stopped, every) for _ in range(given.runs)]
            figures[f"{name}_mb_s"] = median([size / seconds / 1e6 for seconds, _ in runs])
            figures[f"{name}_share"] = median(
                [size / RATE / (SOURCES * seconds - (away if name == "dead" else 0)) for seconds, away in runs]
            )
    figures |= _paths(min(size, 64 * MIB), given.runs)
    asked = {"four_share": 0.95, "stalling_share": 0.9, "dead_share": 0.9, "path_*_ratio": 1.0}
    return report("swarm", mib=size // MIB, path_mib=min(size // MIB, 64), runs=given.runs, **figures, asked=asked)


def _from_four(base: Path, source: Path, stopped: float, every: float) -> tuple[float, float]:
    """Seconds of one whole fetch, and for how many of them the first source was stopped."""
    nodes = [RealNode(base / f"s{number}", ['limits.upload="20MB"']) for number in range(SOURCES)]
    fetcher = RealNode(base / "f")
    with running(*nodes, fetcher), ExitStack() as stack:
        link = ""
        for node in nodes:
            node.start()
            with Client(node.home / "control.sock") as client:
                _, link = timed_job(client, "share.start", paths=[str(source)])
        fetcher.start()
        peers = [node.address() for node in nodes]
        away = stack.enter_context(_stalling(nodes[0].pid, stopped, every)) if stopped else []
        with Client(fetcher.home / "control.sock", timeout=120) as client:
            seconds, _ = timed_job(client, "fetch.start", link=link, path=str(base / "out"), peer=peers)
    assert (base / "out").stat().st_size == source.stat().st_size
    shutil.rmtree(base)
    return seconds, sum(away)


@contextmanager
def _stalling(pid: int, stopped: float, every: float) -> Iterator[list[float]]:
    """The process is stopped at the beginning of every period; for how many seconds each time."""
    over = threading.Event()
    away: list[float] = []

    def work() -> None:
        over.wait(0.5)
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            begun = time.perf_counter()
            over.wait(stopped)
            os.kill(pid, signal.SIGCONT)
            away.append(time.perf_counter() - begun)
            over.wait(every - stopped)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield away
    finally:
        over.set()
        thread.join()


def _paths(size: int, runs: int) -> dict[str, Any]:
    if lacking := missing():
        return {"path_skipped": f"needs {lacking}"}
    figures: dict[str, Any] = {}
    with long_path() as path, workspace() as base, _nginx(path, base, size):
        for name, shape in SHAPES.items():
            path.shape(shape)
            ours, curls = [], []
            for _ in range(runs):
                ours.append(size / _over_path(base / "run", base / "data", path))
                curls.append(size / _curl(path)[1])
            figures[f"path_{name}_mb_s"] = median([rate / 1e6 for rate in ours])
            figures[f"path_{name}_curl_mb_s"] = median([rate / 1e6 for rate in curls])
            figures[f"path_{name}_ratio"] = median([a / b for a, b in zip(ours, curls, strict=True)])
    return figures


def _over_path(base: Path, source: Path, path: LongPath) -> float:
    """Seconds of one whole fetch from a source that was never met."""
    far = RealNode(base / "far", inside=path.far, listen=f"/ip4/{FAR_ADDRESS}/tcp/0")
    near = RealNode(base / "near", inside=path.near, listen=f"/ip4/{NEAR_ADDRESS}/tcp/0")
    with running(far, near):
        far.start()
        near.start()
        with Client(far.home / "control.sock") as client:
            _, link = timed_job(client, "share.start", paths=[str(source)])
        peers = [address for address in far.json("id")[0]["addresses"] if FAR_ADDRESS in address]
        begun = time.perf_counter()
        with Client(near.home / "control.sock", timeout=120) as client:
            timed_job(client, "fetch.start", link=link, path=str(base / "out"), peer=peers)
        seconds = time.perf_counter() - begun
    assert (base / "out").stat().st_size == source.stat().st_size
    shutil.rmtree(base)
    return seconds
