"""Attacks on a whole daemon, started as a person would: it still answers on its control socket, and still ends."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from pathlib import Path

import pytest

from p2pshare.net import ping
from tests.support_guard import attack, dial_once, whole
from tests.support_nodes import RealNode, running

pytestmark = pytest.mark.slow


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


async def test_two_hundred_connections_leave_the_control_socket_its_descriptors(tmp_path: Path) -> None:
    node = RealNode(tmp_path / "node")
    node._before = few_descriptors
    with running(node):
        node.start()
        address = node.address()
        with attack("connections", address, count=200) as attacker:
            await attacker.hears()
            for _ in range(5):
                assert node.json("id")[0]["addresses"]
            network = node.json("status")[0]
            assert network
            assert len(os.listdir(f"/proc/{node.pid}/fd")) < 64
        assert await dial_once(address, 100) is not None


@pytest.mark.parametrize("name", ["mutants_bare", "mutants_inside"])
async def test_broken_bytes_on_plain_and_secured_streams_leave_a_daemon_answering(name: str, tmp_path: Path) -> None:
    """Five seconds each; `python -m bench guard` does a minute."""
    node = RealNode(tmp_path / "node")
    with running(node):
        node.start()
        address = node.address()
        done = await whole(name, address, seconds=5)
        assert done["sent"] > 50
        assert await dial_once(address, 100) is not None
        assert "Traceback" not in node.log_tail()
        assert node.json("daemon", "status")


async def test_fifty_peers_that_never_read_do_not_keep_a_daemon_from_ending(tmp_path: Path) -> None:
    node = RealNode(tmp_path / "node")
    with running(node):
        node.start()
        with attack("never_read", node.address(), count=50, protocol=ping.PROTOCOL) as attacker:
            await attacker.hears()
            descriptor = os.pidfd_open(node.pid)
            os.kill(node.pid, signal.SIGTERM)
            ended, _, _ = select.select([descriptor], [], [], 30)
            os.close(descriptor)
        assert ended, f"the daemon still runs\n{node.log_tail()}"
    assert sys.platform == "linux"
