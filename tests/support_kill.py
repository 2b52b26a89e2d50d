"""A fetch by a real daemon that is killed at random moments; `bench kill` and a test use it."""

from __future__ import annotations

import random
import time
from pathlib import Path

from p2pshare_cli.client import Client
from tests.support_nodes import RealNode, bootstrap, running


def kill_run(base: Path, kills: int, *, size: int, seed: int) -> tuple[int, float]:
    """Kills that happened while the fetch ran (it may end before the last), and how long it all took.

    Raises AssertionError when the file is not the same, or something is left beside it.
    """
    rng = random.Random(seed)
    source = base / "source.bin"
    source.write_bytes(rng.randbytes(size))
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
