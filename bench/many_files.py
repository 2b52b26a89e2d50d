"""200,000 shared files of 100 KiB: the catalogue's share of the data, the restart until ready, idle memory.

The files are sparse, each with a head of its own, so that 20 GB need no room; they are hashed in full all the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from bench.support import MIB, report, workspace
from bench.transfer import timed_job
from p2pshare_cli.client import Client
from tests.support_nodes import RealNode, running

FILES = 200_000
SIZE = 100 << 10
A_DIRECTORY = 1000
REST = 5.0  # seconds until an idle daemon is looked at


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    given = parser.parse_args(arguments)
    with workspace() as base:
        tree = sparse_tree(base / "tree", given.files)
        node = RealNode(base / "home")
        with running(node):
            node.start()
            with Client(node.home / "control.sock") as client:
                published, _ = timed_job(client, "share.start", paths=[str(tree)])
                time.sleep(REST)
                again, _ = timed_job(client, "share.start", paths=[str(tree)])
            after = memory(node.pid)
            node.stop()
            begun = time.perf_counter()
            node.start()
            ready = time.perf_counter() - begun
            time.sleep(REST)
            idle = memory(node.pid)
            catalogue = sum(path.stat().st_size for path in node.home.rglob("catalogue.sqlite*"))
    return report(
        f"{given.files} files of {SIZE} bytes",
        publish_seconds=round(published, 2),
        again_seconds=round(again, 2),
        catalogue_mib=round(catalogue / MIB, 1),
        catalogue_bytes_a_file=round(catalogue / given.files),
        catalogue_of_the_data=round(catalogue / (given.files * SIZE), 5),
        start_to_ready_seconds=round(ready, 2),
        idle_mib=round(idle, 1),
        after_publishing_mib=round(after, 1),
        asked={"catalogue_of_the_data": 0.01, "start_to_ready_seconds": 1.5, "idle_mib": 150},
    )


def sparse_tree(path: Path, count: int) -> Path:
    for number in range(count):
        directory = path / f"d{number // A_DIRECTORY:03d}"
        if not number % A_DIRECTORY:
            directory.mkdir(parents=True)
        with (directory / f"file-{number:06d}.bin").open("wb") as sink:
            sink.write(f"file number {number}".encode())
            sink.truncate(SIZE)
    return path


def memory(pid: int) -> float:
    """Resident MiB of a process, code and libraries included."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
