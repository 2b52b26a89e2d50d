"""The main job among 30 daemons: who shares, who searches and who fetches know one bootstrap peer each, no more."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support_crowd import crowd
from tests.support_nodes import RealNode, bootstrap, running

pytestmark = pytest.mark.slow

DAEMONS = 30
SIZE = 8 << 20


def test_the_main_job_among_thirty_daemons(tmp_path: Path) -> None:
    a, b, c, d = (RealNode(tmp_path / name) for name in "abcd")
    talk = tmp_path / "raft-consensus-talk.bin"
    talk.write_bytes(os.urandom(SIZE))
    with crowd(tmp_path) as others, ThreadPoolExecutor(4) as workers, running(a, b, c, d):
        others.start(1)
        others.start(DAEMONS - 5, bootstrap(others.address(0)))
        doors = map(others.address, (3, 9, 20, 25))
        list(workers.map(lambda node, door: node.start(bootstrap(door)), (a, b, c, d), doors))

        shared = a.json("share", str(talk))[-1]
        assert shared["event"] == "done"
        assert shared["findable"]["stored"] >= 15

        row = [row for row in b.json("search", "raft", "consensus") if row["event"] == "result"][-1]
        assert row["cid"] == shared["cid"]
        assert row["sources"] >= 1

        done = c.json("fetch", row["link"], "-o", str(tmp_path / "c.bin"), "--timeout", "60")[-1]
        assert done["event"] == "done"
        assert (tmp_path / "c.bin").read_bytes() == talk.read_bytes()

        a.stop()
        done = d.json("fetch", row["link"], "-o", str(tmp_path / "d.bin"), "--timeout", "60")[-1]
        assert done["event"] == "done"
        assert (tmp_path / "d.bin").read_bytes() == talk.read_bytes()
