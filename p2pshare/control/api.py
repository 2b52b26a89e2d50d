"""What the control socket needs from the rest of the daemon: `Node` (built by p2pshare.node) and `Host` (the process).

A control method "a.b" is the attribute `a_b`; its parameters, checked and with defaults filled in by the registry,
are keyword arguments. A method returns its result as plain data (what JSON has) and raises errors.P2PShareError.
A stream method also takes `emit`, which sends one event and waits while the client is slow; what it returns is the
final result. It is cancelled (trio.Cancelled) when the client goes away or cancels.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeAlias

Answer: TypeAlias = "dict[str, Any]"
Emit: TypeAlias = "Callable[[dict[str, Any]], Awaitable[None]]"
State: TypeAlias = 'Literal["starting", "ready", "stopping"]'


class Node(Protocol):
    """The running node. Made by `p2pshare.node.open_node`; ready from the moment that context is entered."""

    async def status(self) -> Answer:
        """EXPERIENCE "status", without "uptime", "version", "pid" and "state", which the host adds."""

    async def id(self) -> Answer:
        """{"peer_id", "addresses": [multiaddr/p2p/ID…]}"""

    async def doctor(self) -> Answer:
        """{"checks": [{"name", "state", "message", "remedy"}], "failed": n}"""

    async def verify(self, emit: Emit, *, target: str | None, repair: bool) -> Answer:
        """Emits {"event": "progress", …} and {"event": "damaged", …}; returns {"event": "done", …}."""

    async def storage_show(self) -> Answer: ...

    async def storage_gc(self) -> Answer: ...

    async def share_start(
        self,
        *,
        paths: list[str],
        copy: bool,
        name: str | None,
        tags: list[str],
        title: str | None,
        description: str | None,
        mime: str | None,
        hidden: bool,
        follow_symlinks: bool,
        exclude: list[str],
        announce: bool,
        index: bool,
        hash: str,
        wait: str,
    ) -> Answer:
        """{"job"}. Paths are absolute; text may hold surrogate escapes."""

    async def shares_list(self) -> Answer: ...

    async def shares_show(self, *, target: str) -> Answer: ...

    async def shares_remove(self, *, target: str) -> Answer:
        """{"removed": items}. Raises NotFound when there is none."""

    async def search(
        self,
        emit: Emit,
        *,
        query: str,
        type: str | None,
        ext: str | None,
        min_size: str | None,
        max_size: str | None,
        newer: str | None,
        older: str | None,
        publisher: str | None,
        sort: str,
        limit: int,
        timeout: float,
        local: bool,
        explain: bool,
    ) -> Answer:
        """Emits {"event": "result", …}; returns {"event": "done", "results", "nodes", "elapsed", "complete"}."""

    async def watch_start(
        self,
        *,
        query: str,
        type: str | None,
        ext: str | None,
        min_size: str | None,
        max_size: str | None,
        newer: str | None,
        older: str | None,
        publisher: str | None,
        known: list[str],
    ) -> Answer:
        """{"watch", "since", …}"""

    async def watch_list(self) -> Answer: ...

    async def watch_remove(self, *, watch: int) -> Answer: ...

    async def browse(self, emit: Emit, *, peer: str, limit: int, after: int, timeout: float) -> Answer:
        """Emits {"event": "result", …}; returns {"event": "done", "results", "complete", "after", "elapsed"}."""

    async def fetch_start(
        self,
        *,
        link: str,
        path: str,
        only: str | None,
        overwrite: bool,
        sequential: bool,
        priority: int,
        range: str | None,
        peer: list[str],
        timeout: float | None,
    ) -> Answer:
        """{"job"}"""

    async def show(self, *, link: str, timeout: float) -> Answer: ...

    async def jobs_list(self, *, states: list[str]) -> Answer: ...

    async def jobs_show(self, *, job: int) -> Answer: ...

    async def jobs_pause(self, *, job: int) -> Answer: ...

    async def jobs_resume(self, *, job: int) -> Answer: ...

    async def jobs_cancel(self, *, job: int) -> Answer: ...

    async def jobs_clear(self) -> Answer:
        """{"cleared": jobs}"""

    async def jobs_watch(self, emit: Emit, *, job: int, since: int | None) -> Answer:
        """Emits the job's events; returns its "done" body. Raises the job's own error when it failed."""

    async def events(self, emit: Emit, *, topics: list[str], since: int | None) -> Answer:
        """Emits {"seq", "time", "topic", …body}, until it is cancelled or the node stops; returns {"last": seq}."""

    async def peers_list(self) -> Answer: ...

    async def peers_connect(self, *, address: str) -> Answer:
        """{"peer_id"}"""

    async def peers_disconnect(self, *, peer: str) -> Answer: ...

    async def peers_info(self, *, peer: str) -> Answer: ...


class Host(Protocol):
    """The process around the node: it answers from the first moment, while the node is still being built."""

    @property
    def state(self) -> State: ...

    async def node(self) -> Node:
        """The node, as soon as it is ready. Raises TimedOut (30 s), or the error that kept the node from starting."""

    def ping(self) -> Answer:
        """{"version", "pid", "state"}"""

    def about(self) -> Answer:
        """{"version", "pid", "state", "uptime", "peer_id", …}: what `status` says besides, or instead of, the node."""

    def stop(self) -> None:
        """Begin the graceful stop; returns at once."""

    def log_lines(self, lines: int) -> Sequence[str]:
        """The last lines of the log, oldest first."""

    @property
    def log_path(self) -> str: ...

    def config_list(self) -> Answer:
        """{key: {"value", "default", "source": "default"|"file"|"set", "doc"}}"""


OpenNode: TypeAlias = "Callable[..., AbstractAsyncContextManager[Node]]"
"""p2pshare.node.open_node(config: Config, identity: Identity, places: Places, wall_clock: Callable[[], float])."""
