"""Publish and fetch one file of 1 GiB: p2pshare (encrypted, verified) against libtorrent 2.1.1 (plaintext).

Both sides of both are two processes on loopback, files on tmpfs, in turn in one run. Publishing is timed from the
request to the receipt, fetching from the request to the renamed file; libtorrent starts when the torrent is added.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.limit import limit_run
from bench.support import MIB, PeerProcess, cpu_seconds, median, options, peer_python, report, workspace, write_file
from p2pshare_cli.client import Client
from tests.support_nodes import RealNode, bootstrap, running


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments)
    python = peer_python("libtorrent", "libtorrent==2.1.1")
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    limits: list[dict[str, float]] = []
    with workspace() as base:
        for run in range(given.runs):
            source = write_file(base / f"source-{run}.bin", f"run {run}", given.size * MIB)
            ours.append(p2pshare_run(base / f"ours-{run}", source))
            theirs.append(libtorrent_run(base / f"theirs-{run}", source, python))
            limits.append(limit_run(source, base / "limit.bin"))
            (base / "limit.bin").unlink()
            source.unlink()
    figures = {
        **compare(ours, theirs),
        "cpu_seconds_a_gb": {
            name: median([cpu(one) * 1e9 / (given.size * MIB) for one in runs])
            for name, runs in (("p2pshare", ours), ("libtorrent", theirs), ("limit", limits))
        },
        "limit": {key: median([one[key] for one in limits]) for key in limits[0]},
        "of_the_limit": {
            "fetch_seconds": median(
                [x["fetch_seconds"] / o["fetch_seconds"] for x, o in zip(limits, ours, strict=True)]
            ),
            "cpu_seconds": median([cpu(x) / cpu(o) for x, o in zip(limits, ours, strict=True)]),
        },
        "asked": {"times_faster.fetch_seconds": 2.5, "of_the_limit.fetch_seconds": 0.75},
    }
    return report(f"transfer of {given.size} MiB", **figures, runs=given.runs)


def cpu(run: dict[str, float]) -> float:
    """CPU seconds of both sides of a fetch."""
    return run["source_cpu_seconds"] + run["fetcher_cpu_seconds"]


def compare(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of both sides and the peer's time over ours: above 1 is faster than the peer."""
    return {
        "p2pshare": {key: median([one[key] for one in ours]) for key in ours[0]},
        "libtorrent": {key: median([one[key] for one in theirs]) for key in theirs[0]},
        "times_faster": {
            key: median([t[key] / o[key] for o, t in zip(ours, theirs, strict=True)])
            for key in ("publish_seconds", "fetch_seconds")
        },
    }


def p2pshare_run(base: Path, source: Path) -> dict[str, float]:
    a, b = RealNode(base / "a"), RealNode(base / "b")
    with running(a, b):
        a.start()
        with Client(a.home / "control.sock") as node:
            published, link = timed_job(node, "share.start", paths=[str(source)])
        b.start(bootstrap(a.address()))
        before = [cpu_seconds(a.pid), cpu_seconds(b.pid)]
        with Client(b.home / "control.sock") as node:
            fetched, _ = timed_job(node, "fetch.start", link=link, path=str(base / "fetched"))
        after = [cpu_seconds(a.pid), cpu_seconds(b.pid)]
    shutil.rmtree(base)
    return {
        "publish_seconds": published,
        "fetch_seconds": fetched,
        "source_cpu_seconds": after[0] - before[0],
        "fetcher_cpu_seconds": after[1] - before[1],
    }


def timed_job(node: Client, method: str, **params: Any) -> tuple[float, str]:
    """Seconds from the request to the job's end, and the link of what it made."""
    begun = time.perf_counter()
    job = node.call(method, **params)["job"]
    last: dict[str, Any] = {}
    for event in node.watch(job):
        last = event
    return time.perf_counter() - begun, str(last.get("link", ""))


def libtorrent_run(base: Path, source: Path, python: Path) -> dict[str, float]:
    base.mkdir()
    torrent = str(base / "made.torrent")
    script = "libtorrent_peer.py"
    with PeerProcess(python, script, "publish", str(source), torrent) as publisher:
        published = publisher.answer()["seconds"]
    with PeerProcess(python, script, "seed", str(source), torrent) as seeder:
        port = str(seeder.answer()["port"])
        target = base / "fetched"
        target.mkdir()
        with PeerProcess(python, script, "fetch", torrent, str(target), port) as fetcher:
            fetched = fetcher.answer()
        seeder.end_input()
        seeder_cpu = seeder.answer()["cpu"]
    shutil.rmtree(base)
    return {
        "publish_seconds": published,
        "fetch_seconds": fetched["seconds"],
        "source_cpu_seconds": seeder_cpu,
        "fetcher_cpu_seconds": fetched["cpu"],
    }
