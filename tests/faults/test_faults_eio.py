"""A disk that answers EIO, by a library preloaded into the daemon: said in words, survived, and gone on from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pshare_cli.client import Client
from tests.support_nodes import RealNode, bootstrap, running
from tests.support_shim import WHY_NOT, FailingDisk, may_build

MIB = 1 << 20

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not may_build(), reason=WHY_NOT)]


@pytest.fixture
def disk(tmp_path: Path) -> FailingDisk:
    return FailingDisk(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(random.Random(1).randbytes(24 * MIB))
    return path


@pytest.fixture
def honest(tmp_path: Path) -> Iterator[RealNode]:
    node = RealNode(tmp_path / "honest", ['limits.upload="20MB"'])
    with running(node):
        node.start()
        yield node


def last_of(node: RealNode, job: int) -> dict[str, object]:
    return dict(node.json("jobs", "show", str(job))[0])


@pytest.mark.parametrize("calls", ["w", "s"])
def test_a_fetch_whose_disk_fails_says_so_and_goes_on_once_it_is_well(
    tmp_path: Path, disk: FailingDisk, file: Path, honest: RealNode, calls: str
) -> None:
    link = honest.json("share", str(file))[-1]["link"]
    (tmp_path / "to").mkdir()
    node = RealNode(tmp_path / "node", environ=disk.environ)
    with running(node):
        node.start(bootstrap(honest.address()))
        with Client(node.home / "control.sock", timeout=60) as client:
            job = client.call("fetch.start", link=link, path=str(tmp_path / "to" / "out"))["job"]
            for event in client.watch(job):
                if event["event"] == "progress" and event["bytes"] > 4 * MIB:
                    disk.fail(calls, tmp_path / "to")
                    break
        node.json("jobs", "watch", str(job), check=False)
        about = last_of(node, job)
        assert about["state"] == "failed"
        assert "nput/output error" in str(about["error"]), about["error"]
        assert not (tmp_path / "to" / "out").exists()
        disk.mend()
        node.run("jobs", "resume", str(job))
        assert node.json("jobs", "watch", str(job))[-1]["event"] == "done"
        assert (tmp_path / "to" / "out").read_bytes() == file.read_bytes()


def test_a_source_that_cannot_read_lives_and_serves_again_once_it_can(
    tmp_path: Path, disk: FailingDisk, file: Path
) -> None:
    source, node = RealNode(tmp_path / "source", environ=disk.environ), RealNode(tmp_path / "node")
    with running(source, node):
        source.start()
        link = source.json("share", str(file))[-1]["link"]
        node.start(bootstrap(source.address()))
        disk.fail("r", file)
        with Client(node.home / "control.sock", timeout=60) as client:
            job = client.call("fetch.start", link=link, path=str(tmp_path / "out"))["job"]
            for event in client.watch(job):
                if event["event"] == "progress" and "none has what is missing" in event["reason"]:
                    disk.mend()
                elif event["event"] == "done":
                    break
        assert (tmp_path / "out").read_bytes() == file.read_bytes()
        assert source.json("shares")[0]["state"] == "ok"


def test_a_catalogue_that_cannot_be_written_acknowledges_nothing_and_the_daemon_lives(
    tmp_path: Path, disk: FailingDisk
) -> None:
    node = RealNode(tmp_path / "node", environ=disk.environ)
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name)
    with running(node):
        node.start()
        node.run("share", str(tmp_path / "one"))
        disk.fail("ws", node.home / "catalogue" / "catalogue.sqlite")
        assert node.run("share", str(tmp_path / "two"), check=False).returncode != 0
        assert [share["name"] for share in node.json("shares")] == ["one"]
        disk.mend()
        node.run("share", str(tmp_path / "three"))
        names = [share["name"] for share in node.json("shares")]
        node.kill()
        node.start()
        assert [share["name"] for share in node.json("shares")] == names == ["one", "three"]
