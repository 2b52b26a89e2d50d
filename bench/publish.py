"""Publish one file of 1 GiB in place with SHA-256 and BLAKE3, and 10,000 files of 4 KiB twice: against iroh 0.35.0.

iroh hashes with BLAKE3 and takes the file in place too; its time is from the call to the finished import. Ours is from
the request to the receipt. "again": nothing has changed, after a pause in which the words of the first time are placed.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.small_files import FILES, SIZE
from bench.support import (
    MIB,
    PeerProcess,
    cpu_seconds,
    median,
    options,
    peer_python,
    report,
    workspace,
    write_file,
    write_tree,
)
from bench.transfer import timed_job
from p2pshare_cli.client import Client
from tests.support_nodes import RealNode, running

PAUSE = 4.0  # seconds


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments)
    runs: list[dict[str, float]] = []
    skipped = ""
    try:
        python: Path | None = peer_python("iroh", "iroh==0.35.0")
    except (subprocess.CalledProcessError, OSError) as error:
        python, skipped = None, f"iroh is not here: {error}"
    with workspace() as base:
        tree = write_tree(base / "tree", FILES, SIZE)
        for run in range(given.runs):
            source = write_file(base / f"source-{run}.bin", f"run {run}", given.size * MIB)
            figures = ours(base / "home", source, tree)
            if python is not None:
                figures |= theirs(base / "iroh", source, python)
            runs.append(figures)
            source.unlink()
    medians = {key: median([run[key] for run in runs]) for key in runs[0]}
    if python is not None:
        for name in ("sha256", "blake3"):
            medians[f"{name}_of_iroh"] = median([run[f"{name}_seconds"] / run["iroh_seconds"] for run in runs])
    return report(
        f"publish {given.size} MiB, and {FILES} files of {SIZE} bytes",
        **medians,
        asked={"sha256_of_iroh": 1.0, "blake3_of_iroh": 0.7, "small_seconds": 0.5, "again_seconds": 0.1},
        skipped=skipped,
        runs=given.runs,
    )


def ours(home: Path, source: Path, tree: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    node = RealNode(home)
    with running(node):
        node.start()
        with Client(node.home / "control.sock") as client:
            for name, path, hash in (
                ("sha256", source, "sha256"),
                ("blake3", source, "blake3"),
                ("small", tree, "sha256"),
                ("again", tree, "sha256"),
            ):
                before = cpu_seconds(node.pid)
                found[f"{name}_seconds"], _ = timed_job(client, "share.start", paths=[str(path)], hash=hash)
                found[f"{name}_cpu"] = cpu_seconds(node.pid) - before
                time.sleep(PAUSE)
    shutil.rmtree(home)
    return found


def theirs(store: Path, source: Path, python: Path) -> dict[str, float]:
    with PeerProcess(python, "iroh_peer.py", "publish", str(source), str(store)) as peer:
        answer = peer.answer()
    shutil.rmtree(store)
    return {"iroh_seconds": answer["seconds"], "iroh_cpu": answer["cpu"]}
