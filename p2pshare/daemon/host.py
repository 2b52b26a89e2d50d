"""What the control socket knows of the process: its state, and the node once there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

import trio

from p2pshare.config import Config
from p2pshare.control.api import Answer, Node, State
from p2pshare.daemon.logs import Log
from p2pshare.errors import LocalError, P2PShareError, TimedOut

READY_TIMEOUT = 30.0  # seconds that a request waits for the node


def product_version() -> str:
    try:
        return version("p2pshare")
    except PackageNotFoundError:
        return "unknown"


class ProcessHost:
    """Implements control.api.Host."""

    def __init__(self, config: Config, peer_id: str, log: Log, clock: Callable[[], float]) -> None:
        self._config = config
        self._peer_id = peer_id
        self._log = log
        self._clock = clock
        self._begun = clock()
        self._version = product_version()
        self._node: Node | None = None
        self._settled = trio.Event()  # the node is ready, or will never be
        self.stopping = trio.Event()
        self.problem: P2PShareError | None = None

    @property
    def state(self) -> State:
        if self.stopping.is_set():
            return "stopping"
        return "ready" if self._node is not None else "starting"

    @property
    def log_path(self) -> str:
        return self._log.path

    async def node(self) -> Node:
        with trio.move_on_after(READY_TIMEOUT):
            await self._settled.wait()
        if self._node is not None and not self.stopping.is_set():
            return self._node
        if self.problem is not None:
            raise self.problem
        if self.stopping.is_set():
            raise LocalError("the daemon is stopping", hint="p2pshare daemon start", kind="daemon-not-running")
        raise TimedOut(f"the daemon was not ready within {READY_TIMEOUT:g} s", hint="p2pshare daemon log says why.")

    @property
    def was_ready(self) -> bool:
        return self._node is not None

    def set_ready(self, node: Node) -> None:
        self._node = node
        self._settled.set()

    def set_problem(self, problem: P2PShareError) -> None:
        self.problem = problem
        self._settled.set()

    def stop(self) -> None:
        self.stopping.set()
        self._settled.set()

    def ping(self) -> Answer:
        answer: Answer = {"version": self._version, "pid": os.getpid(), "state": self.state, "peer_id": self._peer_id}
        return answer if self.problem is None else {**answer, "problem": self.problem.message}

    def about(self) -> Answer:
        return {
            "peer_id": self._peer_id,
            "addresses": [],
            "reachable": "unknown",
            "peers": 0,
            "shares": 0,
            "jobs": {},
            "rates": {"in": 0, "out": 0},
            "disk": {},
            "dht": {"nodes": 0, "mode": ""},
            "problems": [] if self.problem is None else [self.problem.message],
            "uptime": self._clock() - self._begun,
            "version": self._version,
            "pid": os.getpid(),
            "state": self.state,
        }

    def log_lines(self, lines: int) -> Sequence[str]:
        return self._log.tail(lines)

    def config_list(self) -> Answer:
        return self._config.describe()
