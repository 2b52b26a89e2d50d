"""Two network namespaces with a router between them that can stop forwarding: a cut of which neither end is told."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2pshare_cli.client import Client
from tests.support_nodes import RealNode, running

MIB = 1 << 20
WHY_NOT = "may not make network namespaces here"
NEAR, FAR = "10.84.1.2", "10.84.2.2"
HOLD = 15.0  # seconds after the link is back until a fetch that does not go on is given up


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def inside(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace]


class Cuttable:
    """`near` and `far` are put before a command to run it there."""

    def __init__(self, name: str) -> None:
        self._near, self._router, self._far = (f"{name}{side}" for side in "nrf")
        self.near, self.far = inside(self._near), inside(self._far)

    def make(self) -> None:
        for namespace in (self._near, self._router, self._far):
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        for side, address in ((self._near, NEAR), (self._far, FAR)):
            gateway = address.removesuffix("2") + "1"
            link = f"to-{side[-1]}"
            ip("link", "add", "wire", "mtu", "9000", "netns", side, "type", "veth", "peer", link, "netns", self._router)
            ip("-n", side, "addr", "add", f"{address}/30", "dev", "wire")
            ip("-n", self._router, "addr", "add", f"{gateway}/30", "dev", link)
            ip("-n", self._router, "link", "set", link, "mtu", "9000", "up")
            ip("-n", side, "link", "set", "wire", "up")
            ip("-n", side, "route", "add", "default", "via", gateway)
        self.join()

    def remove(self) -> None:
        for namespace in (self._near, self._router, self._far):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def cut(self) -> None:
        self._forward(0)

    def join(self) -> None:
        self._forward(1)

    def _forward(self, value: int) -> None:
        command = f"echo {value} > /proc/sys/net/ipv4/ip_forward"
        subprocess.run([*inside(self._router), "sh", "-c", command], check=True)

    def received(self) -> int:
        """Bytes that came to `near` so far, headers and what was sent twice included."""
        text = subprocess.run([*self.near, "cat", "/proc/net/dev"], check=True, capture_output=True, text=True).stdout
        return next(int(line.split()[1]) for line in text.splitlines() if line.strip().startswith("wire:"))


@contextmanager
def cuttable() -> Iterator[Cuttable]:
    made = Cuttable(f"p2cut{os.getpid()}")
    try:
        made.make()
        yield made
    finally:
        made.remove()


def may_cut() -> bool:
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    try:
        with cuttable():
            return True
    except subprocess.CalledProcessError:
        return False


@dataclass(frozen=True)
class Cut:
    """How a fetch took a cut: seconds from the link's return to the next bytes, and bytes above its size.

    Those are headers, and what came twice.
    """

    seconds: float
    first_bytes: float
    twice: int
    size: int


def fetch_through_a_cut(base: Path, seconds: float, *, size: int = 96 * MIB) -> Cut:
    """Raises AssertionError when the fetch does not end with the right bytes."""
    source_file = base / "file"
    source_file.write_bytes(random.Random(seconds).randbytes(size))
    with cuttable() as net:
        listen = "/ip4/{}/tcp/0"
        source = RealNode(base / "far", ['limits.upload="20MB"'], inside=net.far, listen=listen.format(FAR))
        node = RealNode(base / "near", inside=net.near, listen=listen.format(NEAR))
        with running(source, node):
            source.start()
            link = source.json("share", str(source_file))[-1]["link"]
            node.start()
            before = net.received()
            with Client(node.home / "control.sock", timeout=120) as client:
                params = {"link": link, "path": str(base / "out"), "peer": [source.address()]}
                job = client.call("fetch.start", **params)["job"]
                back = first = had = 0.0
                for event in client.watch(job):
                    if event["event"] == "done":
                        break
                    if event["event"] != "progress":
                        continue
                    if not back and event["bytes"] >= size // 4:
                        net.cut()
                        time.sleep(seconds)
                        with Client(node.home / "control.sock") as other:
                            had = float(other.call("jobs.show", job=job)["bytes"])
                        net.join()
                        back = time.monotonic()
                    elif back and not first and event["bytes"] > had:
                        first = time.monotonic() - back
                    assert not back or first or time.monotonic() - back < HOLD, event
            twice = net.received() - before - size
        assert (base / "out").read_bytes() == source_file.read_bytes()
    return Cut(seconds, round(first, 2), twice, size)
