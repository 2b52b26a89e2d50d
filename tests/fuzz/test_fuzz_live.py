"""A few seconds of fuzzing a live node, and that it can fail. A minute: `python -m tests.fuzz --live plain`."""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pshare.net.api import Stream
from tests.fuzz.live import Node, Watch
from tests.fuzz.live_client import Lost, Secured, say_bare

ROOT = Path(__file__).parents[2]
PROTOCOL = "/test/defect/1"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")
@pytest.mark.parametrize("where", ["plain", "secured"])
def test_a_live_node_holds_and_more_of_it_is_reached_than_by_the_seeds(where: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--live", where, "--seconds", "4"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout
    found = re.search(r"held (\d+) inputs, edges (\d+) to (\d+), features (\d+) to (\d+)", done.stdout)
    assert found is not None, done.stdout
    inputs, edges, all_edges, _, _ = map(int, found.groups())
    assert inputs > 50
    assert all_edges > edges > 100


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    running = Node(tmp_path)
    running.start()
    running.await_start()
    yield running
    running.end()


def test_what_is_wrong_inside_the_node_is_noticed(node: Node) -> None:
    async def defect(stream: Stream) -> None:
        said = await stream.receive_exactly(4)
        if said == b"slow":
            end = time.thread_time() + 0.06
            while time.thread_time() < end:
                pass
        elif said != b"fine":
            raise ValueError("a defect")

    node.handle(PROTOCOL, defect)
    with closing(Secured(node.port, [PROTOCOL])) as secured, closing(Watch(node, secured.say)) as watch:
        for _ in range(100):  # with an honest ping at the end
            watch.one(secured.seed(PROTOCOL, 0, b"fine"))
        with pytest.raises(AssertionError, match="an input took"):
            watch.one(secured.seed(PROTOCOL, 0, b"slow"))
        with pytest.raises(AssertionError, match="ValueError: a defect"):
            watch.one(secured.seed(PROTOCOL, 0, b"wrong"))


def test_a_port_that_does_not_close_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.live_client.PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(Lost, match="is not closed"):
        say_bare(listener.getsockname()[1], b"?")
