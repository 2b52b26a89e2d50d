"""Bits flip on a disk, and no time stamp tells: `verify` names every file and repairs it, no fetcher takes one, and
after the first report none is offered again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support_content import flip
from tests.support_nodes import RealNode, bootstrap, running, tree_of

FILES = 100
SIZE = 60_000  # more than is hashed each time anyway

pytestmark = pytest.mark.slow


def test_a_hundred_flipped_bits_in_a_hundred_files(tmp_path: Path) -> None:
    rng = random.Random(6)
    tree, got = tmp_path / "tree", tmp_path / "got"
    tree.mkdir()
    for number in range(FILES):
        (tree / f"{number:03}").write_bytes(rng.randbytes(SIZE))
    intact, rotten, asker = (RealNode(tmp_path / name) for name in ("intact", "rotten", "asker"))
    with running(intact, rotten, asker):
        intact.start()
        link = str(intact.json("share", str(tree))[-1]["link"])
        rotten.start(bootstrap(intact.address()))
        rotten.run("fetch", link, "-o", str(got))
        intact.stop()
        asker.start(bootstrap(rotten.address()))
        asker.run("fetch", link, "-o", str(tmp_path / "before"))  # all of it was verified just now
        asker.run("unshare", link)
        for path in sorted(got.iterdir()):
            flip(path, rng)

        said = asker.fails(8, "fetch", link, "-o", str(tmp_path / "first"), "--timeout", "4")
        assert "the bytes were thrown away" in said
        asker.stop()
        asker.start(bootstrap(rotten.address()))  # a source that lied is asked no more before that
        said = asker.run("fetch", link, "-o", str(tmp_path / "second"), "--timeout", "4", check=False).stderr.decode()
        assert "has changed at its source" in said, "a rotten block was offered again"
        assert not (tmp_path / "first").exists()
        assert not (tmp_path / "second").exists()
        for _ in range(2):
            assert rotten.json("shares")[0]["state"] == "changed"

        done = rotten.run("verify", check=False)
        assert done.returncode == 8
        named = [path for path in sorted(got.iterdir()) if str(path) in done.stdout.decode()]
        assert len(named) == FILES
        intact.start(bootstrap(rotten.address()))
        end = rotten.json("verify", "--repair", check=False)[-1]
        for job in end["repairing"]:
            assert rotten.json("jobs", "watch", str(job))[-1]["event"] == "done"
        assert rotten.json("verify")[-1]["damaged"] == 0
        assert tree_of(got) == tree_of(tree)
        assert rotten.json("shares")[0]["state"] == "ok"
