"""browse, search --watch and the publisher's key, with real daemons and the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support_nodes import RealNode, bootstrap, running

pytestmark = pytest.mark.slow


def test_what_is_new_is_told_to_a_client_that_stays_and_to_one_that_comes_back(tmp_path: Path) -> None:
    a, b = RealNode(tmp_path / "a"), RealNode(tmp_path / "b")
    for number in range(4):
        (tmp_path / f"raft {number}.txt").write_text(str(number))
    with running(a, b):
        b.start()
        a.start(bootstrap(b.address()))
        b.run("share", str(tmp_path / "raft 0.txt"))
        b.run("share", "--no-index", str(tmp_path / "raft 1.txt"))
        peer = b.json("id")[0]["peer_id"]
        listed = a.json("browse", peer)
        assert [row.get("name") for row in listed] == ["raft 0.txt", None]
        assert (listed[-1]["complete"], listed[-1]["results"]) == (True, 1)
        assert "raft 0.txt" in a.run("browse", peer[-6:]).stdout.decode()

        command = [sys.executable, "-m", "p2pshare_cli", "search", "raft", "--watch", "--json"]
        with subprocess.Popen(command, env=a.environment, stdout=subprocess.PIPE) as watching:
            assert watching.stdout is not None
            said = b""
            while b'"watching"' not in said:
                said = watching.stdout.readline()
            b.run("share", str(tmp_path / "raft 2.txt"))
            while b"raft 2.txt" not in said:
                said = watching.stdout.readline()
                assert b"raft 0.txt" not in said
            os.kill(watching.pid, signal.SIGINT)
        assert watching.returncode == 130
        a.stop()
        b.run("share", str(tmp_path / "raft 3.txt"))
        a.start(bootstrap(b.address()))
        heard = a.hears("search", "result", name="raft 3.txt")
        [watch] = a.json("watches")
        assert (heard["watch"], watch["query"], watch["found"]) == (watch["watch"], "raft", 2)
        a.run("watches", "remove", str(watch["watch"]))
        assert a.json("watches") == []
        a.fails(5, "watches", "follow", str(watch["watch"]))


def test_two_machines_publish_under_one_name(tmp_path: Path) -> None:
    a, b, c = (RealNode(tmp_path / name) for name in "abc")
    (tmp_path / "first-lecture.mp4").write_text("1")
    (tmp_path / "second-lecture.mp4").write_text("2")
    with running(a, b, c):
        c.start()
        first = bootstrap(c.address())
        a.start(first)
        b.start(first)
        b.run("share", str(tmp_path / "second-lecture.mp4"))
        name = a.json("id")[0]["publisher"]
        assert name != b.json("id")[0]["publisher"]
        a.run("id", "export-publisher", str(tmp_path / "key"))
        b.fails(11, "id", "import-publisher", str(tmp_path / "key"))
        assert b.json("id", "import-publisher", "--force", str(tmp_path / "key"))[0]["restart"]
        b.stop()
        b.start(first)
        assert b.json("id")[0]["publisher"] == name
        a.run("share", str(tmp_path / "first-lecture.mp4"))
        again = b.json("share", str(tmp_path / "second-lecture.mp4"))[-1]["postings"]
        assert again["stored"] == again["asked"] > 0  # what the old key had signed is signed anew
        a.stop()
        b.stop()
        rows = c.json("search", "lecture", "--publisher", name, "--timeout", "5")
        assert {row.get("name") for row in rows} == {"first-lecture.mp4", "second-lecture.mp4", None}
