"""Long network paths on this machine: two network namespaces joined by path.c, which this builds with gcc.

Needs root, `ip` and /dev/net/tun. It may use the standard library; it must not know p2pshare.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("path.c")
NEAR_ADDRESS, FAR_ADDRESS = "10.83.0.1", "10.83.0.2"
LEAST_QUEUE = 65536


@dataclass(frozen=True, slots=True)
class Shape:
    """rate: bytes a second each way; rtt: seconds; loss: share of packets, each way alike. The queue in front of the
    bottleneck holds one bandwidth-delay product."""

    rate: float
    rtt: float
    loss: float = 0.0

    @property
    def queue(self) -> int:
        return max(LEAST_QUEUE, int(self.rate * self.rtt))


class LongPath:
    """Two namespaces and what joins them; `near` and `far` are put before a command to run it there."""

    def __init__(self, near: str, far: str, emulator: subprocess.Popen[str]) -> None:
        self.near = ["ip", "netns", "exec", near]
        self.far = ["ip", "netns", "exec", far]
        self._emulator = emulator
        self._answer()

    def shape(self, shape: Shape) -> None:
        """Applies from the next packet on; the counts begin anew."""
        self._ask(f"shape {shape.rate:g} {shape.queue} {shape.rtt / 2 * 1e6:.0f} {shape.loss * 1e6:.0f}")

    def counts(self) -> dict[str, Any]:
        return self._ask("count")

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._emulator.stdin is not None
        self._emulator.stdin.write(command + "\n")
        self._emulator.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._emulator.stdout is not None
        line = self._emulator.stdout.readline()
        if not line:
            raise RuntimeError(f"the path emulator ended with {self._emulator.wait()}")
        return dict(json.loads(line))


def missing() -> str:
    """What this machine lacks for it, "" for nothing."""
    if os.geteuid() != 0:
        return "root"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun"
    return next((tool for tool in ("ip", "gcc") if not _found(tool)), "")


@contextmanager
def long_path(seed: int = 1) -> Iterator[LongPath]:
    """The namespaces, joined and addressed; they and the emulator are gone afterwards."""
    near, far = (f"p2ps{os.getpid()}{side}" for side in "nf")
    with tempfile.TemporaryDirectory(prefix="p2pshare-path-") as directory:
        program = Path(directory) / "path"
        _run(["gcc", "-O2", "-o", str(program), str(SOURCE)])
        made: list[str] = []
        try:
            for name in (near, far):
                _run(["ip", "netns", "add", name])
                made.append(name)
            with subprocess.Popen(
                [str(program), near, far, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as emulator:
                path = LongPath(near, far, emulator)
                _address(near, NEAR_ADDRESS)
                _address(far, FAR_ADDRESS)
                try:
                    yield path
                finally:
                    assert emulator.stdin is not None
                    emulator.stdin.close()
        finally:
            for name in made:
                _run(["ip", "netns", "delete", name])


def _address(name: str, address: str) -> None:
    _run(["ip", "-n", name, "link", "set", "lo", "up"])
    _run(["ip", "-n", name, "addr", "add", f"{address}/24", "dev", "p0"])
    _run(["ip", "-n", name, "link", "set", "p0", "up", "mtu", "1500", "txqueuelen", "20000"])


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


def _found(tool: str) -> bool:
    return any(os.access(os.path.join(place, tool), os.X_OK) for place in os.get_exec_path())
