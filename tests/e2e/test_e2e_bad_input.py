"""Bad input gets a clear sentence, the right exit code, and nothing is lost: one real daemon that shares, one that
fetches, for all cases of this file."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support_nodes import RealNode, bootstrap, running, tree_of

pytestmark = pytest.mark.slow

NOBODYS = "bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaay"  # SHA-256 of nothing that exists
CONTENT = b"Consensus is what is left when nobody objects.\n"
MIB = 1 << 20


@dataclass
class Pair:
    source: RealNode
    node: RealNode
    link: str  # a small file of the source
    large: str  # 3 MiB of the source


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    base = tmp_path_factory.mktemp("bad-input")
    source = RealNode(base / "source", modes_hold=True)
    node = RealNode(base / "node", modes_hold=True)
    talk, large = base / "raft-talk.txt", base / "large.bin"
    talk.write_bytes(CONTENT)
    large.write_bytes(os.urandom(3 * MIB))
    with running(source, node):
        source.start()
        node.start(bootstrap(source.address()))
        shared = [source.json("share", str(path))[-1] for path in (talk, large)]
        yield Pair(source, node, shared[0]["link"], shared[1]["link"])
        for survivor in (source, node):
            assert survivor.json("daemon", "status")[0]["state"] == "ready"
            assert "Traceback" not in survivor.log_tail()
        assert {item["state"] for item in source.json("shares") if item["name"] == "large.bin"} == {"ok"}


@contextmanager
def mounted(where: Path, *options: str) -> Iterator[Path]:
    """A file system of its own, of 1 MiB, where we may mount one."""
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(where)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        if options:
            subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(where)], check=True)
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


# -- sharing --


def test_nothing_there(pair: Pair, tmp_path: Path) -> None:
    assert f"Error: there is no {tmp_path}/gone" in pair.source.fails(5, "share", str(tmp_path / "gone"))


def test_unreadable_file(pair: Pair, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    secret.chmod(0)
    said = pair.source.fails(4, "share", str(secret))
    assert "secret.txt" in said
    assert "permission denied" in said


def test_in_a_directory_what_cannot_be_shared_is_left_out_and_named(pair: Pair, tmp_path: Path) -> None:
    tree = tmp_path / "mixed"
    (tree / "deep").mkdir(parents=True)
    (tree / "good.txt").write_bytes(CONTENT)
    (tree / "secret.txt").write_text("x")
    (tree / "secret.txt").chmod(0)
    (tree / "deep" / "loop").symlink_to(tree, target_is_directory=True)
    os.mkfifo(tree / "pipe")
    (tree / os.fsdecode(b"caf\xe9.txt")).write_text("latin")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
        done = pair.source.json("share", str(tree), "--follow-symlinks")[-1]
    assert (done["event"], done["files"]) == ("done", 1)
    left_out = {os.path.basename(item["path"]): item["reason"] for item in done["skipped"]}
    assert set(left_out) >= {"secret.txt", "loop", "pipe", "socket", "caf\N{REPLACEMENT CHARACTER}.txt"}
    assert "permission" in left_out["secret.txt"]
    assert "UTF-8" in left_out["caf\N{REPLACEMENT CHARACTER}.txt"]


def test_file_whose_own_name_is_not_utf8(pair: Pair, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    Path(path).write_bytes(CONTENT)
    said = pair.source.fails(2, "share", path)
    assert "not UTF-8" in said
    error = pair.source.json("share", path, check=False)[-1]
    assert (error["event"], error["kind"]) == ("error", "usage")


def test_file_that_changes_while_it_is_hashed(pair: Pair, tmp_path: Path) -> None:
    moving = tmp_path / "moving.bin"
    moving.write_bytes(b"\0" * (64 * MIB))
    ended = threading.Event()

    def write() -> None:
        with moving.open("r+b") as target:
            while not ended.is_set():
                target.seek(0)
                target.write(os.urandom(8))
                target.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        said = pair.source.fails(8, "share", str(moving))
    finally:
        ended.set()
        writer.join()
    assert "changed while it was read" in said
    assert not [item for item in pair.source.json("shares") if item["name"] == "moving.bin"]
    assert pair.source.json("share", str(moving))[-1]["event"] == "done"


def test_a_shared_file_that_changed_is_not_served_and_shares_says_so(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "promised.txt"
    path.write_text("as promised")
    link = pair.source.json("share", str(path))[-1]["link"]
    path.write_text("all different")
    said = pair.node.fails(8, "fetch", link, "-o", str(tmp_path / "got.txt"), "--timeout", "1")
    assert "has changed at its source" in said
    assert not (tmp_path / "got.txt").exists()
    assert [item["state"] for item in pair.source.json("shares") if item["name"] == "promised.txt"] == ["changed"]
    path.unlink()
    assert [item["state"] for item in pair.source.json("shares") if item["name"] == "promised.txt"] == ["missing"]


def test_hard_names_travel(pair: Pair, tmp_path: Path) -> None:
    tree = tmp_path / "names"
    tree.mkdir()
    names = ["CON", "con", "x" * 255, "\x1b[31mred.txt", "line\nend", "A.txt", "a.txt", " .. ", "-rf", "한글.txt"]
    names += [unicodedata.normalize(form, "é.txt") for form in ("NFC", "NFD")]
    for number, name in enumerate(names):
        (tree / name).write_text(f"{number}")
    done = pair.source.json("share", str(tree))[-1]
    assert done["files"] == len(names)
    target = tmp_path / "got"
    assert pair.node.json("fetch", done["link"], "-o", str(target), "--timeout", "10")[-1]["event"] == "done"
    assert sorted(path.read_text() for path in target.iterdir()) == sorted(str(n) for n in range(len(names)))
    assert all(name.isprintable() for name in os.listdir(target))
    assert not {"CON", "con"} & set(os.listdir(target))
    shown = pair.node.run("show", done["link"]).stdout
    assert b"\x1b" not in shown


# -- links --


@pytest.mark.parametrize("word", ["nonsense", "p2pshare:", "ipfs://", "http://example.org/x", "p2pshare:bafy/x", "Qm"])
@pytest.mark.parametrize("command", ["fetch", "show", "unshare"])
def test_not_a_link(pair: Pair, word: str, command: str) -> None:
    said = pair.node.fails(2, command, word)
    assert "is not a link" in said
    assert "p2pshare:CID/NAME" in said


@pytest.mark.parametrize("name", ["..", "../x", "../../x", "x" * 300, "CON", "%2e%2e%2fx", "a%00b", "%1b[31mred"])
def test_a_links_name_never_leads_out(pair: Pair, tmp_path: Path, name: str) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    cid = pair.link.removeprefix("p2pshare:").partition("/")[0]
    done = pair.node.run("fetch", f"p2pshare:{cid}/{name}", "--timeout", "1", cwd=inner, check=False)
    assert done.returncode in (0, 2, 5)
    assert os.listdir(outer) == ["inner"]
    found = os.listdir(inner)
    assert len(found) == (done.returncode == 0)
    assert not {"CON", "..", "."} & set(found)
    assert all(name.isprintable() and len(name.encode()) <= 255 for name in found)


def test_cid_that_nobody_has(pair: Pair, tmp_path: Path) -> None:
    said = pair.node.fails(5, "fetch", NOBODYS, "--timeout", "1", cwd=tmp_path)
    assert f"no source of {NOBODYS}" in said
    assert "--peer" in said
    error = pair.node.json("fetch", NOBODYS, "--timeout", "0.5", check=False)[-1]
    assert (error["event"], error["kind"], error["retryable"]) == ("error", "not-found", False)
    assert os.listdir(tmp_path) == []


def test_a_row_that_is_not_there(pair: Pair) -> None:
    assert "no row 99999" in pair.node.fails(5, "fetch", "99999")


# -- queries --


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([f"w{n}" for n in range(10_000)], "at most 8192 characters"),
        ([("x" * 1000) for _ in range(1000)], "at most 8192 characters"),  # 1 MB
        ([f"w{n}" for n in range(33)], "at most 32 words"),
        (['"raft'], "not closed"),
        (['raft"talk'], "not closed"),
        (["ra\x1b[2Jft"], "control character"),
        (["a", "!", "?"], "two letters"),
        (["\u202e"], "two letters"),
        (["type:\u202evideo"], "There is no type"),
        (["--", "-draft"], "leave out"),
        (["raft", "OR"], "both sides"),
        (["size:>many"], "not a size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_query_that_cannot_be_asked(pair: Pair, words: list[str], says: str) -> None:
    said = pair.node.fails(2, "search", *words)
    assert says in said
    assert len(said) < 1000
    assert not {"\x1b", "\u202e"} & set(said)


def test_a_query_of_nothing_but_common_words_is_bounded(pair: Pair) -> None:
    done = pair.node.json("search", "--timeout", "3", "the", "of", "and", "\u202eraft", check=False)
    assert done[-1]["event"] == "done"
    assert done[-1]["results"] == 0
    found = pair.node.json("search", "--timeout", "5", "\u202eraft\u202c", "talk", "--explain", check=False)
    [row] = [event for event in found if event.get("name") == "raft-talk.txt"][-1:]
    assert row["parts"]["match"] > 0.5


# -- destinations --


def test_destination_that_exists(pair: Pair, tmp_path: Path) -> None:
    there = tmp_path / "there.txt"
    there.write_text("mine")
    said = pair.node.fails(11, "fetch", pair.link, "-o", str(there))
    assert "there.txt" in said
    assert "--overwrite" in said
    assert there.read_text() == "mine"
    pair.node.run("fetch", pair.link, "-o", str(there), "--overwrite")
    assert there.read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["there.txt"]


def test_destination_that_is_a_directory(pair: Pair, tmp_path: Path) -> None:
    pair.node.run("fetch", pair.link, "-o", str(tmp_path))
    assert (tmp_path / "raft-talk.txt").read_bytes() == CONTENT
    occupied = tmp_path / "second" / "raft-talk.txt"
    occupied.mkdir(parents=True)
    (occupied / "mine").write_text("mine")
    for words in ((), ("--overwrite",)):
        pair.node.fails(11, "fetch", pair.link, "-o", str(tmp_path / "second"), *words)
    assert (occupied / "mine").read_text() == "mine"


def test_destination_whose_directory_is_not_there(pair: Pair, tmp_path: Path) -> None:
    assert "no" in pair.node.fails(5, "fetch", pair.link, "-o", str(tmp_path / "gone" / "x.txt"))


def test_destination_that_is_full(pair: Pair, tmp_path: Path) -> None:
    with mounted(tmp_path / "small") as small:
        (small / "mine.txt").write_text("mine")
        said = pair.node.fails(9, "fetch", pair.large, "-o", str(small / "large.bin"))
        assert "large.bin" in said
        assert not (small / "large.bin").exists()
        assert (small / "mine.txt").read_text() == "mine"
        # In room that fits, the same daemon goes on.
        pair.node.run("fetch", pair.link, "-o", str(small / "fits.txt"))


def test_destination_that_is_read_only(pair: Pair, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    said = pair.node.fails(4, "fetch", pair.link, "-o", str(closed / "x.txt"))
    assert "x.txt" in said
    with mounted(tmp_path / "read-only", "ro") as place:
        assert "read-only" in pair.node.fails(4, "fetch", pair.link, "-o", str(place / "x.txt"))


def test_a_failed_fetch_can_be_resumed_when_its_disk_has_room_again(pair: Pair, tmp_path: Path) -> None:
    with mounted(tmp_path / "small") as small:
        lines = pair.node.json("fetch", pair.large, "-o", str(small / "large.bin"), check=False)
        assert lines[-1]["kind"] == "disk-full"
        job = pair.node.json("jobs")[-1]
        assert job["state"] == "failed"
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        pair.node.run("jobs", "resume", str(job["job"]))
        pair.node.run("jobs", "watch", str(job["job"]))
        assert (small / "large.bin").stat().st_size == 3 * MIB


# -- standard input and output --


def test_standard_input_and_output(pair: Pair) -> None:
    data = os.urandom(100_000)
    link = json.loads(
        pair.source.run("share", "-", "--name", "piped.bin", "--json", input=data).stdout.splitlines()[-1]
    )
    assert pair.node.run("fetch", link["link"], "-o", "-").stdout == data
    assert "piped.bin" not in {item["name"] for item in pair.node.json("shares")}
    assert "--name" in pair.source.fails(2, "share", "-", input=b"x")
    assert "one path component" in pair.source.fails(2, "share", "-", "--name", "../x", input=b"x")


def test_a_reader_that_goes_away_leaves_nothing(pair: Pair) -> None:
    command = [sys.executable, "-m", "p2pshare_cli", "fetch", pair.large, "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=pair.node.environment, cwd="/") as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(60) != 0
    assert not [item for item in pair.node.json("shares") if "stdout-" in (item["path"] or "")]
    assert not [name for name in os.listdir(pair.node.home) if name.startswith("stdout-")]


# -- the home and the process --


def test_a_second_daemon(pair: Pair) -> None:
    assert f"process {pair.node.pid}" in pair.node.fails(11, "daemon", "start")
    done = subprocess.run(
        [sys.executable, "-m", "p2pshare.daemon"],
        env=pair.node.environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 11
    assert b"runs already" in done.stderr


def test_a_stale_socket_and_a_wrong_key(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    node = RealNode(home)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "control.sock"))
    assert "no daemon answers" in node.fails(3, "status", "--no-start")
    (home / "config.toml").write_text("[limits]\nuplaod = 3\n")
    said = node.fails(2, "status")
    assert "limits.uplaod" in said
    assert "limits.upload" in said
    assert "limits.uplaod" in node.fails(2, "daemon", "start")
    (home / "config.toml").unlink()
    with running(node):
        node.start()
        assert node.json("status")[0]["state"] == "ready"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_a_home_of_another_user(tmp_path: Path) -> None:
    home = tmp_path / "theirs"
    home.mkdir(mode=0o700)
    os.chown(home, 12345, 12345)
    assert "belongs to another user" in RealNode(home).fails(4, "status")
    assert os.listdir(home) == []


def test_a_tree_is_the_same_after_all_that(pair: Pair, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file.txt").write_bytes(CONTENT)
    (tree / "empty").mkdir()
    shutil.copyfile(__file__, tree / "this.py")
    link = pair.source.json("share", str(tree))[-1]["link"]
    pair.node.run("fetch", link, "-o", str(tmp_path / "got"), "--timeout", "10")
    assert tree_of(tmp_path / "got") == tree_of(tree)
