"""index.publish and index.serve turned off, and --no-index, with real daemons."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support_nodes import RealNode, bootstrap, running

pytestmark = pytest.mark.slow


def test_what_is_turned_off_is_off(tmp_path: Path) -> None:
    a, b, c = (RealNode(tmp_path / f"home-{name}") for name in "abc")
    files = []
    for name in ("quiet-lecture.mp4", "hidden-lecture.mp4", "public-lecture.mp4"):
        files.append(tmp_path / name)
        files[-1].write_bytes(name.encode() * 100)
    with running(a, b, c):
        b.start("index.serve=false")
        a.start(bootstrap(b.address()), "index.publish=false")
        c.start(bootstrap(b.address()))
        assert a.json("share", str(files[0]))[-1]["postings"] == {"stored": 0, "asked": 0}
        assert c.json("share", "--no-index", str(files[1]))[-1]["postings"] == {"stored": 0, "asked": 0}
        done = c.json("share", str(files[2]))[-1]
        assert done["postings"]["asked"] > 0
        assert not (a.home / "publisher.key").exists()
        assert stat.S_IMODE((c.home / "publisher.key").stat().st_mode) == 0o600

        b.json("share", str(files[0]))
        c.stop()
        assert {row.get("name") for row in b.json("search", "lecture", "--timeout", "5")} == {
            None,
            "quiet-lecture.mp4",
            "public-lecture.mp4",
        }
        found = a.json("search", "public", "lecture", "--timeout", "5")[0]
        assert (found["name"], found["tier"], found["sources"]) == ("public-lecture.mp4", "dht", 0)
