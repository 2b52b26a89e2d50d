"""Daemons that are killed at random moments of a fetch, and of sharing; `bench faults` and tests use it."""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from p2pshare_cli.client import Client
from p2pshare_cli.errors import CommandError
from tests.support_nodes import RealNode, bootstrap, running

MIB = 1 << 20
BATCH = 64 * MIB  # verified bytes that need not be recorded yet, see exchange.download.SAVE_BYTES


def kill_run(base: Path, kills: int, *, size: int, seed: int) -> tuple[int, float]:
    """Kills that happened while the fetch ran (it may end before the last), and how long it all took.

    Raises AssertionError when the file is not the same, something is left beside it, the catalogue does not have it,
    or more than one batch of pieces a kill was fetched again.
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
        assert [share["path"] for share in two.json("shares")] == [str(target)], "it is not in the catalogue"
        two.stop()
        while one.json("peers"):
            pass
        sent = int(one.json("shares")[0]["bytes_sent"])
    assert target.read_bytes() == source.read_bytes(), "the file is not the same"
    assert [path.name for path in target.parent.iterdir()] == ["out.bin"], "something is left"
    assert 0 <= sent - size <= done * BATCH, f"{sent - size} bytes were fetched again after {done} kills"
    return done, time.monotonic() - begun


@dataclass
class Sharing:
    """Shares one small tree after another, as fast as the daemon takes them. `acknowledged`: CID by path."""

    home: Path
    trees: Path
    seed: int
    copy: bool = False
    acknowledged: dict[str, str] = field(default_factory=dict)
    accepted: list[int] = field(default_factory=list)  # jobs that the daemon said it has
    made: int = 0

    def run(self) -> None:
        """Until the daemon goes away."""
        rng = random.Random(self.seed)
        try:
            with Client(self.home / "control.sock") as node:
                while True:
                    tree = self._make(rng)
                    params = {"paths": [str(tree)], "wait": "none", "copy": self.copy and self.made % 2 == 0}
                    job = node.call("share.start", **params)["job"]
                    self.accepted.append(job)
                    for event in node.watch(job):
                        if event["event"] == "done":
                            self.acknowledged[event["path"]] = event["cid"]
        except (CommandError, OSError):
            return

    def _make(self, rng: random.Random) -> Path:
        tree = self.trees / f"{self.seed}-{self.made:05}"
        self.made += 1
        tree.mkdir(parents=True)
        for number in range(rng.randint(1, 40)):
            data = rng.randbytes(rng.choice((100, 5_000, 300_000)))
            descriptor = os.open(tree / f"{number}", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, data)
            os.fsync(descriptor)  # a person's own files are there already
            os.close(descriptor)
        return tree


def share_kill_run(base: Path, kills: int, *, seed: int) -> tuple[int, int]:
    """Kill a daemon at random moments of sharing. How many shares were acknowledged, and how many jobs cut off.

    Raises AssertionError when an acknowledged share is lost or not whole, a job that was accepted does not end by
    itself, or something is left of one.
    """
    rng = random.Random(seed)
    node = RealNode(base / "node")
    acknowledged: dict[str, str] = {}
    accepted: list[int] = []
    with running(node):
        for number in range(kills):
            node.start()
            sharing = Sharing(node.home, base / "trees", seed * 1000 + number, copy=True)
            thread = threading.Thread(target=sharing.run)
            thread.start()
            time.sleep(rng.uniform(0.0, 1.0))
            node.kill()
            thread.join()
            acknowledged |= sharing.acknowledged
            accepted += sharing.accepted
        node.start()
        ended = settled(node, accepted)
        check_shares(node, acknowledged)
        cut = sum(job not in ended for job in accepted)
    return len(acknowledged), cut


def settled(node: RealNode, jobs: list[int]) -> set[int]:
    """Wait until these jobs are done. The ones that were at once."""
    at_once = set()
    with Client(node.home / "control.sock") as client:
        for job in jobs:
            about = client.call("jobs.show", job=job)
            if about["state"] == "done":
                at_once.add(job)
                continue
            last = {}
            for event in client.watch(job):
                last = event
            assert last.get("event") == "done", last
    return at_once


def check_shares(node: RealNode, acknowledged: dict[str, str]) -> None:
    """Every share that was acknowledged is in the catalogue and whole; no copy is kept for nothing."""
    shown = {share["path"]: share for share in node.json("shares")}
    for path, cid in acknowledged.items():
        assert shown[path]["cid"] == cid, f"{path} is lost"
        assert shown[path]["state"] == "ok", shown[path]
    done = node.json("verify")[-1]
    assert done["damaged"] == 0, done
    copies = node.home / "catalogue" / "copies"
    kept = {str(path) for path in copies.glob("*/*")} if copies.exists() else set()
    assert kept or not any(path.startswith(str(node.home)) for path in shown)
    assert kept == {path for path in shown if path.startswith(str(copies))}, "a copy is kept for nothing"
