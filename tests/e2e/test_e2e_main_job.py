"""The main job with three real daemons: A shares, B finds by words, C fetches by link and serves on."""

from __future__ import annotations

import hashlib
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.support_nodes import RealNode, bootstrap, running, tree_of

BIG = 256 * 1024 * 1024

pytestmark = pytest.mark.slow


def library_copy(target: Path) -> Path:
    """The standard library of this machine's Python, without what running it writes and without site-packages."""
    source = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("site-packages", "__pycache__"))
    return target


def big_file(path: Path) -> Path:
    """256 MiB that do not repeat: SHAKE-128 of a fixed seed, 16 MiB at a time."""
    with path.open("wb") as sink:
        for part in range(BIG // (16 << 20)):
            sink.write(hashlib.shake_128(b"p2pshare e2e %d" % part).digest(16 << 20))
    return path


def test_share_find_fetch_and_serve_on(tmp_path: Path) -> None:
    library = library_copy(tmp_path / "python-standard-library")
    big = big_file(tmp_path / "big-raft-recording.bin")
    a, b, c, d = (RealNode(tmp_path / f"home-{name}") for name in "abcd")
    with running(a, b, c, d):
        b.start()
        a.start(bootstrap(b.address()))
        shared = [a.json("share", str(path))[-1] for path in (library, big)]
        assert [item["event"] for item in shared] == ["done", "done"]
        assert shared[0]["files"] > 1000

        tree_row = b.json("search", "python", "standard", "library")[0]
        assert tree_row["link"].split("/")[0] == shared[0]["link"].split("/")[0]
        big_row = [row for row in b.json("search", "raft", "recording") if row["event"] == "result"][-1]
        assert big_row["cid"] == shared[1]["cid"]
        assert big_row["sources"] >= 1

        c.start(bootstrap(b.address()))
        destination = tmp_path / "fetched"
        destination.mkdir()
        done = [
            c.json("fetch", link, "-o", str(destination / name), "--timeout", "60")[-1]
            for link, name in ((tree_row["link"], "tree"), (big_row["link"], "big.bin"))
        ]
        assert [item["event"] for item in done] == ["done", "done"]
        assert tree_of(destination / "tree") == tree_of(library)
        assert (destination / "big.bin").stat().st_size == BIG
        assert same_bytes(destination / "big.bin", big)

        a.stop()
        d.start(bootstrap(b.address()))
        last = d.json("fetch", big_row["link"], "-o", str(tmp_path / "from-c.bin"), "--timeout", "60")[-1]
        assert last["event"] == "done"
        assert same_bytes(tmp_path / "from-c.bin", big)


def same_bytes(one: Path, other: Path) -> bool:
    with one.open("rb") as first, other.open("rb") as second:
        return hashlib.file_digest(first, "sha256").digest() == hashlib.file_digest(second, "sha256").digest()


def test_a_sharer_keeps_nothing_twice(tmp_path: Path) -> None:
    big = big_file(tmp_path / "in-place.bin")
    a = RealNode(tmp_path / "home")
    with running(a):
        a.start()
        a.json("share", str(big))
        kept = sum(path.stat().st_size for path in a.home.rglob("*") if path.is_file())
        assert kept < 16 * 1024 * 1024
