"""One real daemon as a person at a terminal, a pipe, curl and a script see it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pshare_cli.client import Client
from tests.support_nodes import LIMIT, RealNode, bootstrap, running

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealNode, RealNode]]:
    base = tmp_path_factory.mktemp("terminal")
    source, node = RealNode(base / "source"), RealNode(base / "node")
    (base / "raft-talk.txt").write_text("Consensus.\n")
    (base / "large-consensus.bin").write_bytes(os.urandom(64 * MIB))
    with running(source, node):
        source.start('limits.upload="8MB"')
        node.start(bootstrap(source.address()))
        source.run("share", str(base / "raft-talk.txt"), str(base / "large-consensus.bin"))
        yield source, node


class Terminal:
    """A command on a pseudo-terminal of so many columns."""

    def __init__(self, node: RealNode, columns: int, *words: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {**node.environment, "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2pshare_cli", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=node.home.parent,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C reaches it
        )
        os.close(slave)
        self.shown = ""

    def until(self, text: str) -> str:
        while text not in self.shown:
            ready, _, _ = select.select([self._master], [], [], LIMIT)
            assert ready, f"{text!r} did not come: {self.shown!r}"
            self.shown += os.read(self._master, 65536).decode("utf-8", "replace")
        return self.shown

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def end(self) -> int:
        try:
            while data := os.read(self._master, 65536):
                self.shown += data.decode("utf-8", "replace")
        except OSError:  # EIO: the last one who held the terminal has gone
            pass
        os.close(self._master)
        return self.process.wait(LIMIT)


def test_progress_and_ctrl_c_on_a_terminal(nodes: tuple[RealNode, RealNode], tmp_path: Path) -> None:
    _, node = nodes
    link = next(row["link"] for row in node.json("search", "large") if row["event"] == "result")
    fetch = Terminal(node, 100, "fetch", link, "-o", str(tmp_path / "got.bin"))
    shown = fetch.until("1 source")
    assert "large-consensus.bin" in shown
    assert "━" in shown
    assert "MB/s" in shown
    fetch.press(b"\x03")
    assert fetch.end() == 130
    job = node.json("jobs")[-1]
    assert job["state"] == "running"
    assert f"p2pshare jobs watch {job['job']}" in fetch.shown
    watch = Terminal(node, 50, "jobs", "watch", str(job["job"]))
    shown = watch.until("ETA")
    assert all(len(line) < 50 for line in shown.replace("\x1b[K", "").replace("\r", "\n").splitlines())
    node.run("jobs", "cancel", str(job["job"]))
    assert watch.end() == 130
    assert os.listdir(tmp_path) == []


def test_search_watches_for_what_is_new(nodes: tuple[RealNode, RealNode], tmp_path: Path) -> None:
    source, node = nodes
    watch = Terminal(node, 100, "search", "watched", "--watch")
    watch.until("goes on when you leave")
    (tmp_path / "watched-later.txt").write_text("late")
    source.run("share", str(tmp_path / "watched-later.txt"))
    assert "1  watched-later.txt" in watch.until("watched-later.txt")
    watch.press(b"\x03")
    assert watch.end() == 130
    assert b"watched-later.txt" in node.run("show", "1").stdout


def test_no_terminal_no_colour_no_bar(nodes: tuple[RealNode, RealNode]) -> None:
    _, node = nodes
    for command in (["search", "raft"], ["status"], ["shares"], ["jobs"], ["peers"], ["id"], ["config"], ["storage"]):
        done = node.run(*command)
        assert done.stdout.strip()
        assert b"\x1b" not in done.stdout + done.stderr
    assert b"why" in node.run("search", "raft").stdout
    assert node.run("search", "raft", "--quiet").stderr == b""


def test_json_everywhere(nodes: tuple[RealNode, RealNode]) -> None:
    _, node = nodes
    for command in (["status"], ["shares"], ["jobs"], ["peers"], ["id"], ["config"], ["storage"], ["doctor"]):
        for words in ([*command, "--json"], ["--json", *command]):
            for line in node.run(*words).stdout.splitlines():
                assert isinstance(json.loads(line), dict)
    error = node.json("jobs", "show", "9999", check=False)
    assert [(e["event"], e["kind"]) for e in error] == [("error", "not-found")]


def test_curl_a_raw_socket_and_python(nodes: tuple[RealNode, RealNode], monkeypatch: pytest.MonkeyPatch) -> None:
    _, node = nodes
    path = str(node.home / "control.sock")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(path)
        raw.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n')
        with raw.makefile("rb") as answers:
            assert json.loads(answers.readline())["result"]["state"] == "ready"
    if curl := shutil.which("curl"):
        command = [curl, "-s", "--unix-socket", path, "http://p2pshare/v1/status"]
        assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["state"] == "ready"
    monkeypatch.setenv("P2PSHARE_HOME", str(node.home))
    with Client() as client:
        assert client.call("id")["peer_id"] == node.json("id")[0]["peer_id"]


def test_doctor_says_what_is_wrong_and_what_to_do(nodes: tuple[RealNode, RealNode], tmp_path: Path) -> None:
    _, node = nodes
    checks = {line["name"]: line for line in node.json("doctor") if "name" in line}
    assert {"socket", "key", "ports", "nat", "clock", "disk", "dht", "bootstrap"} <= set(checks)
    assert [checks[name]["state"] for name in ("socket", "key", "ports", "bootstrap")] == ["ok"] * 4
    key = node.home / "identity.key"
    content = key.read_bytes()
    key.chmod(0o644)
    try:
        done = node.run("doctor", check=False)
        assert done.returncode == 1
        assert b"fail  key" in done.stdout
    finally:
        key.chmod(0o600)
    assert key.read_bytes() == content
    absent = RealNode(tmp_path / "absent")
    done = absent.run("doctor", check=False)
    assert done.returncode == 1
    assert b"p2pshare daemon start" in done.stdout


def test_storage_tells_copies_from_what_stays_in_place(nodes: tuple[RealNode, RealNode]) -> None:
    source, _ = nodes
    before = source.json("storage")[0]
    source.run("share", "-", "--name", "kept.txt", input=b"x" * 1000)
    about = source.json("storage")[0]
    assert about["copies"] == {"count": 1, "bytes": 1000}
    assert about["in_place"] == before["in_place"]
    assert source.json("storage", "gc")[0]["blocks_freed"] >= 0
    source.run("unshare", source.json("shares")[-1]["link"])
    assert source.json("storage")[0]["copies"]["count"] == 0


def test_verify_finds_a_flipped_byte_and_repairs_what_was_fetched(
    nodes: tuple[RealNode, RealNode], tmp_path: Path
) -> None:
    source, node = nodes
    own, got = tmp_path / "own-notes.txt", tmp_path / "got.txt"
    own.write_text("mine " * 1000)
    link = source.json("share", str(own))[-1]["link"]
    node.run("fetch", link, "-o", str(got), "--timeout", "10")
    assert node.json("verify", str(got))[-1]["damaged"] == 0
    before = got.stat()
    with got.open("r+b") as file:
        file.write(b"X")
    os.utime(got, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk that rots: nothing but the bytes tells
    done = node.run("verify", str(got), "--repair", "--json", check=False)
    assert done.returncode == 8
    damaged, end = [json.loads(line) for line in done.stdout.splitlines()][-2:]
    assert (damaged["event"], damaged["path"], damaged["state"]) == ("damaged", str(got), "changed")
    assert node.json("jobs", "watch", str(end["repairing"][0]))[-1]["event"] == "done"
    assert got.read_bytes() == own.read_bytes()
    assert node.json("verify", link)[-1]["damaged"] == 0
    own.write_text("other")
    assert "changed" in source.run("verify", str(own), "--repair", check=False).stdout.decode()
    assert own.read_text() == "other"


def test_copies_have_a_quota(tmp_path: Path) -> None:
    node = RealNode(tmp_path / "home")
    assert node.json("storage", "quota")[0]["value"] == 0
    node.home.mkdir(mode=0o700)
    node.run("storage", "quota", "1MiB")
    with running(node):
        node.start()
        assert "no room" in node.fails(9, "share", "-", "--name", "large", input=bytes(2 * MIB))
        node.run("share", "-", "--name", "small", input=bytes(MIB // 2))
        assert "storage.quota" in node.fails(9, "share", "-", "--name", "more", input=b"x" * MIB)
        assert node.json("storage")[0]["copies"] == {"count": 1, "bytes": MIB // 2}


def test_without_waiting_it_is_announced_all_the_same(nodes: tuple[RealNode, RealNode], tmp_path: Path) -> None:
    _, node = nodes
    (tmp_path / "patience.txt").write_text("soon")
    assert b"being announced" in node.run("share", str(tmp_path / "patience.txt"), "--wait", "none").stdout
    for _ in range(100):
        if any(item["name"] == "patience.txt" and item["findable"]["stored"] for item in node.json("shares")):
            return
    raise AssertionError("it was not announced")


def test_the_completion_script_completes(nodes: tuple[RealNode, RealNode]) -> None:
    _, node = nodes
    for shell in ("bash", "zsh", "fish"):
        assert b"_P2PSHARE_COMPLETE" in node.run("completion", shell).stdout
    asked = {"_P2PSHARE_COMPLETE": "bash_complete", "COMP_WORDS": "p2pshare fe", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "from p2pshare_cli.main import main; main()"]
    done = subprocess.run(command, env={**node.environment, **asked}, capture_output=True, check=False)
    assert b"fetch" in done.stdout
