"""Real daemons for tests: a home each, started and driven through the command line as a person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT = 240  # seconds that any one command may take before the test gives up


class Ended(AssertionError):
    """A command did not end as it should have."""


class RealNode:
    """One home with its daemon process. All ports are free ones, only loopback is used."""

    def __init__(self, home: Path, settings: Sequence[str] = ()) -> None:
        self.home = home
        self.settings = [
            'network.listen=["/ip4/127.0.0.1/tcp/0"]',
            "network.rendezvous=[]",
            "network.allow_private_addresses=true",
            *settings,
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "P2PSHARE_HOME": str(self.home), "NO_COLOR": "1"}

    def run(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """`p2pshare WORDS` in this home; raises Ended with what it said when it fails and `check`."""
        command = [sys.executable, "-m", "p2pshare_cli", *words]
        cwd = options.pop("cwd", self.home.parent)
        done = subprocess.run(
            command, check=False, env=self.environment, capture_output=True, timeout=LIMIT, cwd=cwd, **options
        )
        if check and done.returncode != 0:
            said = done.stdout[-2000:].decode("utf-8", "replace") + done.stderr[-2000:].decode("utf-8", "replace")
            raise Ended(f"p2pshare {' '.join(words)} ended with {done.returncode}:\n{said}\n{self.log_tail()}")
        return done

    def json(self, *words: str, check: bool = True) -> list[dict[str, Any]]:
        """The objects that `p2pshare WORDS --json` prints."""
        done = self.run(*words, "--json", check=check)
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def start(self, *settings: str) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        words = [word for setting in (*self.settings, *settings) for word in ("--set", setting)]
        self.run("daemon", "start", *words)

    def stop(self) -> None:
        self.run("daemon", "stop", check=False)

    @property
    def pid(self) -> int:
        return int(self.json("daemon", "status")[0]["pid"])

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        pid = self.pid
        descriptor = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            import select

            select.select([descriptor], [], [], LIMIT)
        finally:
            os.close(descriptor)

    def address(self) -> str:
        """What another node takes as --peer or in network.bootstrap."""
        return str(self.json("id")[0]["addresses"][0])

    def log_tail(self) -> str:
        try:
            return (self.home / "daemon.log").read_text(errors="replace")[-3000:]
        except OSError:
            return ""


@contextmanager
def running(*nodes: RealNode) -> Iterator[None]:
    """Stops the nodes at the end, whatever happened."""
    try:
        yield
    finally:
        for node in nodes:
            node.stop()


def bootstrap(*addresses: str) -> str:
    return f"network.bootstrap={json.dumps(list(addresses))}"


def tree_of(root: Path) -> dict[str, tuple[str, bytes]]:
    """Every path under `root` with its kind and content, for comparing two trees byte for byte."""
    import hashlib

    found: dict[str, tuple[str, bytes]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            where = str(path.relative_to(root))
            if path.is_symlink():
                found[where] = ("symlink", os.fsencode(os.readlink(path)))
            elif path.is_dir():
                found[where] = ("directory", b"")
            else:
                with path.open("rb") as source:
                    found[where] = ("file", hashlib.file_digest(source, "sha256").digest())
    return found
