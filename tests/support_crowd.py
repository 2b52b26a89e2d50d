"""Many daemons at little cost: one process imports what a daemon needs and forks one for each home.

`python -m tests.support_crowd` reads lines of JSON, {"home", "settings"}, forks a daemon for each, and ends them all
with its input. Each daemon is as `python -m p2pshare.daemon` makes it; only the import is shared.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2pshare_cli.client import Client

ROOT = Path(__file__).parents[1]
WAIT = 120  # seconds for daemons to begin


class Crowd:
    """Daemons on loopback with free ports, by number."""

    def __init__(self, base: Path, orders: Any, told: socket.socket) -> None:
        self._base = base
        self._orders = orders
        self._told = told
        self._count = 0

    def start(self, count: int, *settings: str) -> None:
        """Starts so many more at once; returns when all are ready."""
        for number in range(self._count, self._count + count):
            home = self._home(number)
            home.mkdir(mode=0o700)
            self._orders.write(json.dumps({"home": str(home), "settings": [*LONELY, *settings]}) + "\n")
        self._orders.flush()
        ready = 0
        while ready < count:
            ready += self._told.recv(4096) == b"READY=1"
        self._count += count

    def address(self, number: int) -> str:
        with Client(self._home(number) / "control.sock", timeout=WAIT) as client:
            return str(client.call("id")["addresses"][0])

    def _home(self, number: int) -> Path:
        return self._base / f"crowd-{number}"


LONELY = ('network.listen=["/ip4/127.0.0.1/tcp/0"]', "network.rendezvous=[]", "network.allow_private_addresses=true")


@contextmanager
def crowd(base: Path) -> Iterator[Crowd]:
    """At the end all daemons are ended together."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(base / "ready"))
        told.settimeout(WAIT)
        environment = {**os.environ, "NOTIFY_SOCKET": str(base / "ready")}
        command = [sys.executable, "-m", "tests.support_crowd"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
            watchdog = threading.Timer(4 * WAIT, process.terminate)
            watchdog.start()
            try:
                yield Crowd(base, process.stdin, told)
            finally:
                watchdog.cancel()
                told.close()  # a daemon that says that it stops would wait for us to read it
                assert process.stdin is not None
                process.stdin.close()
                code = process.wait(WAIT)
        assert code == 0, f"of the daemons {code} did not end well"


def main() -> int:
    from p2pshare.daemon.__main__ import main as daemon
    from p2pshare.daemon.process import import_node

    import_node()
    daemons = []
    for line in sys.stdin:
        order = json.loads(line)
        if (pid := os.fork()) == 0:
            _be(daemon, order["home"], order["settings"])
        daemons.append(pid)
    for pid in daemons:
        os.kill(pid, signal.SIGTERM)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in daemons)


def _be(daemon: Any, home: str, settings: Sequence[str]) -> None:
    code = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nowhere, descriptor)
        code = daemon(["--home", home, *(word for setting in settings for word in ("--set", setting))])
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
