"""kill -9 the fetching daemon at random moments, start it again each time, and compare the file at the end.

Asked: after 100 kills every fetch has ended by itself with the right bytes, and nothing is left beside the file.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

from bench.support import MIB, options, report, workspace, write_file
from p2pshare_cli.client import Client
from tests.support_nodes import RealNode, bootstrap, running


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments, runs=100)
    kills = fetches = 0
    seconds = 0.0
    while kills < given.runs:
        with workspace() as base:
            more, took = kill_run(base, given.runs - kills, size=min(given.size, 256) * MIB, seed=fetches)
        kills, seconds, fetches = kills + more, seconds + took, fetches + 1
    return report("kill -9 during a fetch", kills=kills, fetches=fetches, seconds=round(seconds, 1), same=True)


def kill_run(base: Path, kills: int, *, size: int, seed: int) -> tuple[int, float]:
    """Kills that happened while the fetch ran (it may end before the last), and how long it all took.

    Raises AssertionError when the file is not the same, or something is left beside it.
    """
    rng = random.Random(seed)
    source = write_file(base / "source.bin", f"kill {seed}", size)
    target = base / "target" / "out.bin"
    target.parent.mkdir()
    one, two = RealNode(base / "one"), RealNode(base / "two", ['limits.download="60MB"'])
    begun = time.monotonic()
    done = 0
    with running(one, two):
        one.start()
        link = str(one.json("share", str(source))[-1]["link"])
        two.start(bootstrap(one.address()))
        with Client(two.home / "control.sock") as node:
            job = node.call("fetch.start", link=link, path=str(target))["job"]
        while done < kills and not target.exists():
            time.sleep(rng.uniform(0.0, 1.5))
            two.kill()
            done += 1
            two.start(bootstrap(one.address()))
        with Client(two.home / "control.sock") as node:
            last = {}
            for event in node.watch(job):
                last = event
    assert last.get("event") == "done", last
    assert target.read_bytes() == source.read_bytes(), "the file is not the same"
    assert [path.name for path in target.parent.iterdir()] == ["out.bin"], "something is left"
    return done, time.monotonic() - begun
