"""A network namespace that nothing leaves: with addresses on loopback, and a wire whose packets are told one by one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import IO, Any

import pytest

from tests.support_cut import inside, ip

WIRE = "10.85.0.1"  # our end of the wire
BEYOND = "10.85.0.9"  # nobody is there
WAIT = 90  # seconds that the wire is listened to
_names = count()
_LISTENS = """
import json, socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
    wire.bind(("wire", 3))
    print(json.dumps("ready"), flush=True)
    while True:
        packet, (_, kind, direction, *_) = wire.recvfrom(65535)
        if direction == socket.PACKET_OUTGOING:
            print(json.dumps([kind, packet[14:].hex()]), flush=True)
"""


@contextmanager
def namespace(*addresses: str) -> Iterator[list[str]]:
    """What to put before a command so that it runs in a namespace of its own, with `addresses` on its loopback, where
    multicast works. The test is skipped where that is not allowed."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("only root may make network namespaces, with iproute2")
    name = f"p2p{os.getpid()}n{next(_names)}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are refused here: {error.stderr.strip()}")
    try:
        ip("-n", name, "link", "set", "lo", "up", "multicast", "on")
        for address in addresses:
            ip("-n", name, "addr", "add", f"{address}/32", "dev", "lo")
        ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "lo")
        yield inside(name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class Wire:
    """What was sent to the wire. Nobody answers there."""

    def __init__(self, within: Sequence[str], said: IO[str]) -> None:
        self._within = within
        self._said = said

    def next(self) -> tuple[int, bytes]:
        """(EtherType, what is in the frame) of the next packet; waits for it."""
        line = self._said.readline()
        assert line, "who listens at the wire ended"
        kind, content = json.loads(line)
        return kind, bytes.fromhex(content)

    def so_far(self) -> list[tuple[int, bytes]]:
        """All packets up to now that were not taken yet."""
        mark = os.urandom(16)
        say = f"import socket; socket.socket(2, 2).sendto(bytes.fromhex('{mark.hex()}'), ('{BEYOND}', 9))"
        subprocess.run([*self._within, sys.executable, "-c", say], check=True)
        found = []
        while not (packet := self.next())[1].endswith(mark):
            found.append(packet)
        return found


@contextmanager
def wired() -> Iterator[tuple[list[str], Wire]]:
    """A namespace whose only way out is a wire to nobody."""
    with namespace() as within:
        name = within[-1]
        ip("-n", name, "link", "add", "wire", "type", "veth", "peer", "name", "beyond")
        for setting in ("all", "default"):  # the kernel itself would greet IPv6 routers
            value = f"net.ipv6.conf.{setting}.disable_ipv6=1"
            subprocess.run([*within, "sysctl", "-qw", value], check=False, capture_output=True)
        ip("-n", name, "addr", "add", f"{WIRE}/24", "dev", "wire")
        for link in ("wire", "beyond"):
            ip("-n", name, "link", "set", link, "up", "arp", "on")
        ip("-n", name, "neigh", "add", BEYOND, "lladdr", "02:00:00:00:00:09", "dev", "wire")
        ip("-n", name, "route", "add", "default", "via", BEYOND)
        ip("-n", name, "route", "del", "224.0.0.0/4", "dev", "lo")
        command = [*within, sys.executable, "-c", _LISTENS]
        process: subprocess.Popen[str] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout as said:
            watchdog = threading.Timer(WAIT, process.kill)
            watchdog.start()
            try:
                ready: Any = json.loads(said.readline())
                assert ready == "ready"
                yield within, Wire(within, said)
            finally:
                watchdog.cancel()
                process.kill()
                process.wait()
