"""1,000,000 entries in one directory, by references: building its shards, and what a fetcher makes of them.

CPU seconds and resident MiB of this process, before and behind each step. Nothing is read from a disk.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from os import getpid
from typing import TypeVar

from bench.many_files import memory
from bench.support import report
from p2pshare_protocols.builder import V1_2025, build_directory
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.dagpb import Link
from p2pshare_protocols.dagwalk import DagWalk

ENTRIES = 1_000_000
T = TypeVar("T")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    given = parser.parse_args(arguments)
    figures: dict[str, float] = {"start_mib": round(memory(getpid()), 1)}

    def step(name: str, work: Callable[[], T]) -> T:
        begun = time.process_time()
        made = work()
        figures[f"{name}_cpu_seconds"] = round(time.process_time() - begun, 2)
        figures[f"{name}_mib"] = round(memory(getpid()), 1)
        return made

    links = step("links", lambda: _links(given.entries))
    root, blocks = step("build", lambda: build_directory(links, V1_2025))
    links.clear()
    found = dict(blocks)
    walk = step("walk", lambda: _walk(root.cid, found))
    entries = step("plan", walk.plan).entries
    assert len(entries) == given.entries + 1
    return report(f"a directory of {given.entries} entries", blocks=len(blocks), **figures)


def _links(count: int) -> list[Link]:
    return [Link(CID.of(RAW, b"%d" % number), b"file-%07d.bin" % number, 4096) for number in range(count)]


def _walk(root: CID, blocks: dict[CID, bytes]) -> DagWalk:
    walk = DagWalk(root)
    while not walk.done:
        for cid in walk.wanted(1024):
            walk.feed(cid, blocks[cid])
    return walk
