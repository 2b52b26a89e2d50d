"""Real daemons for tests: a home each, started and driven through the command line as a person would."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT = 240  # seconds that any one command may take before the test gives up
CAPBSET_DROP = 24  # prctl(2)
READ_ANYTHING = (1, 2)  # capabilities(7): CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def be_bound_by_modes() -> None:
    """In a child that is about to exec: file modes hold for it, also when the tests run as root."""
    if os.geteuid() == 0:
        for capability in READ_ANYTHING:
            ctypes.CDLL(None).prctl(CAPBSET_DROP, capability, 0, 0, 0)


class Ended(AssertionError):
    """A command did not end as it should have."""


class RealNode:
    """One home with its daemon process. All ports are free ones, only loopback is used.

    `modes_hold`: the command, and a daemon that it starts, cannot read what file modes forbid, even as root.
    `inside` is put before every command (`ip netns exec NAME`), `environ` is added to what surrounds it, and `listen`
    is where it takes connections.
    """

    def __init__(
        self,
        home: Path,
        settings: Sequence[str] = (),
        *,
        modes_hold: bool = False,
        inside: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        listen: str = "/ip4/127.0.0.1/tcp/0",
    ) -> None:
        self.home = home
        self._inside = [*inside]
        self._environ = dict(environ or {})
        self._before = be_bound_by_modes if modes_hold else None
        self.settings = [
            f'network.listen=["{listen}"]',
            "network.rendezvous=[]",
            "network.allow_private_addresses=true",
            *settings,
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self._environ, "P2PSHARE_HOME": str(self.home), "NO_COLOR": "1"}

    def run(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """`p2pshare WORDS` in this home; raises Ended with what it said when it fails and `check`."""
        command = [*self._inside, sys.executable, "-m", "p2pshare_cli", *words]
        cwd = options.pop("cwd", self.home.parent)
        done = subprocess.run(
            command,
            check=False,
            env=self.environment,
            capture_output=True,
            timeout=LIMIT,
            cwd=cwd,
            preexec_fn=self._before,
            **options,
        )
        if check and done.returncode != 0:
            said = done.stdout[-2000:].decode("utf-8", "replace") + done.stderr[-2000:].decode("utf-8", "replace")
            raise Ended(f"p2pshare {' '.join(words)} ended with {done.returncode}:\n{said}\n{self.log_tail()}")
        return done

    def json(self, *words: str, check: bool = True) -> list[dict[str, Any]]:
        """The objects that `p2pshare WORDS --json` prints."""
        done = self.run(*words, "--json", check=check)
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def fails(self, code: int, *words: str, **options: Any) -> str:
        """What `p2pshare WORDS` says on standard error when it ends with `code`, as it must."""
        done = self.run(*words, check=False, **options)
        said = done.stderr.decode("utf-8", "replace")
        if done.returncode != code:
            raise Ended(f"p2pshare {' '.join(words)} ended with {done.returncode}, not {code}:\n{said}")
        return said

    def start(self, *settings: str) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        words = [word for setting in (*self.settings, *settings) for word in ("--set", setting)]
        self.run("daemon", "start", *words)

    def hears(self, topic: str, event: str, **wanted: Any) -> dict[str, Any]:
        """Waits for the first event of a topic, since the node began, that is called so and says what is wanted."""
        command = [*self._inside, sys.executable, "-m", "p2pshare_cli", "events", topic, "--since", "0", "--json"]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE) as following:
            watchdog = threading.Timer(LIMIT, following.kill)
            watchdog.start()
            try:
                assert following.stdout is not None
                for line in following.stdout:
                    said: dict[str, Any] = json.loads(line)
                    if said.get("event") == event and wanted.items() <= said.items():
                        return said
            finally:
                watchdog.cancel()
                following.kill()
        raise Ended(f"no event {event!r} with {wanted} came\n{self.log_tail()}")

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
