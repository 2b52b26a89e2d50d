"""A fetcher that is killed half-way, a source that lies, a daemon that is started again: real processes, real bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.evil_source import MARKER
from tests.support_nodes import RealNode, bootstrap, running

MIB = 1 << 20  # also the size of a piece here: one leaf of unixfs-v1-2025
SLOW = 'limits.upload="20MB"'

pytestmark = pytest.mark.slow


def noise(path: Path, mebibytes: int, *, marked: bool = False) -> bytes:
    """Bytes that do not repeat, written to `path`; `marked`: the evil source's MARKER lies in each mebibyte."""
    data = bytearray(hashlib.shake_128(b"must be shown").digest(mebibytes * MIB))
    for piece in range(mebibytes if marked else 0):
        data[piece * MIB + 1000 : piece * MIB + 1000 + len(MARKER)] = MARKER
    path.write_bytes(data)
    return bytes(data)


def sent_by(node: RealNode) -> int:
    """What it sent of its one item, once everybody who asked is gone."""
    while node.json("peers"):
        pass
    return int(node.json("shares")[0]["bytes_sent"])


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


@contextmanager
def following(node: RealNode, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "p2pshare_cli", *words, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=node.environment) as process:
        yield process


def test_killed_at_half_it_goes_on_and_fetches_only_what_is_missing(tmp_path: Path) -> None:
    size = 64 * MIB
    data = noise(tmp_path / "big.bin", 64)
    target = tmp_path / "got" / "big.bin"
    target.parent.mkdir()
    a, b = RealNode(tmp_path / "a"), RealNode(tmp_path / "b")
    with running(a, b):
        a.start(SLOW)
        link = a.json("share", str(tmp_path / "big.bin"))[-1]["link"]
        b.start(bootstrap(a.address()))
        job = 0
        with following(b, "fetch", link, "-o", str(target)) as fetch:
            for event in lines_of(fetch):
                if event["event"] == "progress" and 2 * event["bytes"] >= size:
                    job = event["job"]
                    b.kill()
                    break
            assert fetch.wait(60) == 3
        assert not target.exists()
        [part] = target.parent.iterdir()
        kept = part.read_bytes()
        written = sum(kept[at : at + MIB] == data[at : at + MIB] for at in range(0, size, MIB))
        assert written >= 32
        before = sent_by(a)
        b.start(bootstrap(a.address()))
        done = b.json("jobs", "watch", str(job))[-1]
        assert (done["event"], done["path"]) == ("done", str(target))
        b.stop()
        assert target.read_bytes() == data
        assert os.listdir(target.parent) == ["big.bin"]
        assert sent_by(a) - before <= (64 - written + 1) * MIB


@contextmanager
def evil_source(home: Path, file: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    command = [sys.executable, "-m", "tests.e2e.evil_source", str(home), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_a_wrong_byte_never_arrives_and_the_fetch_fails(tmp_path: Path) -> None:
    noise(tmp_path / "big.bin", 4, marked=True)
    target = tmp_path / "got" / "big.bin"
    target.parent.mkdir()
    node = RealNode(tmp_path / "node")
    with running(node), evil_source(tmp_path / "evil", tmp_path / "big.bin") as (evil, about):
        node.start()
        said = node.fails(8, "fetch", about["link"], "-o", str(target), "--peer", about["address"])
        assert "the bytes were thrown away" in said
        assert evil.stdout is not None
        assert evil.stdout.readline() == "lied\n"
        assert not target.exists()
        falsified = bytes((MARKER[0] ^ 1, *MARKER[1:]))
        assert all(falsified not in path.read_bytes() for path in target.parent.iterdir())
        assert node.json("jobs")[-1]["state"] == "failed"


def test_with_an_honest_source_too_it_succeeds(tmp_path: Path) -> None:
    data = noise(tmp_path / "big.bin", 16, marked=True)
    honest, node = RealNode(tmp_path / "honest"), RealNode(tmp_path / "node")
    with running(honest, node), evil_source(tmp_path / "evil", tmp_path / "big.bin") as (evil, about):
        honest.start(SLOW)
        honest.json("share", str(tmp_path / "big.bin"))
        node.start(bootstrap(honest.address()))
        done = node.json("fetch", about["link"], "-o", str(tmp_path / "got.bin"), "--peer", about["address"])[-1]
        assert (done["event"], done["sources"]) == ("done", 1)
        assert (tmp_path / "got.bin").read_bytes() == data
        assert evil.stdout is not None
        assert evil.stdout.readline() == "lied\n"


def test_shares_and_jobs_survive_a_restart(tmp_path: Path) -> None:
    data = noise(tmp_path / "big.bin", 48)
    a, b = RealNode(tmp_path / "a"), RealNode(tmp_path / "b")
    with running(a, b):
        a.start(SLOW)
        link = a.json("share", str(tmp_path / "big.bin"), "--tag", "lasting")[-1]["link"]
        before = a.json("shares")
        b.start(bootstrap(a.address()))
        job = b.json("fetch", link, "-o", str(tmp_path / "got.bin"), "--detach")[-1]["job"]
        b.run("jobs", "pause", str(job))
        b.stop()
        a.stop()
        a.start(SLOW)
        shown = {key: value for key, value in a.json("shares")[0].items() if key != "bytes_sent"}
        assert shown == {key: value for key, value in before[0].items() if key != "bytes_sent"}
        assert a.json("search", "lasting")[0]["link"] == link
        b.start(bootstrap(a.address()))
        assert b.json("jobs", "show", str(job))[0]["state"] == "paused"
        b.run("jobs", "resume", str(job))
        b.stop()
        b.start(bootstrap(a.address()))  # a running job goes on by itself
        assert b.json("jobs", "watch", str(job))[-1]["event"] == "done"
        assert (tmp_path / "got.bin").read_bytes() == data
