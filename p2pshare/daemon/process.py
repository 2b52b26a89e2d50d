"""The daemon's life, in order:

config -> directories -> lock -> log -> identity -> control socket -> node -> ready … stop -> node closed -> end
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence

import trio

from p2pshare import config as configuration
from p2pshare.config import Config
from p2pshare.control.api import Node, OpenNode
from p2pshare.control.server import ControlServer, open_server
from p2pshare.daemon import deadline
from p2pshare.daemon.deadline import bounded_stop, name_stuck_tasks
from p2pshare.daemon.home import locked_home, prepare_directories
from p2pshare.daemon.host import ProcessHost
from p2pshare.daemon.logs import Log, open_log
from p2pshare.daemon.notify import notify
from p2pshare.errors import LocalError, P2PShareError
from p2pshare.identity import Identity, load_or_create
from p2pshare_protocols.places import Places

logger = logging.getLogger(__name__)

DESCRIPTORS = 65536
# Python's collector looks at all young objects after 700 new ones, and at all there are after 70,000: too often for
# trees of ten thousand names. What was imported never goes away and is left out for good.
_GARBAGE = (10_000, 20, 20)

Load = Callable[[], OpenNode]


def import_node() -> OpenNode:
    """The factory of the real node; takes a second, because it imports libp2p."""
    from p2pshare.node import open_node

    return open_node


def run(places: Places, overrides: Sequence[str] = (), *, foreground: bool = False, load: Load = import_node) -> int:
    """Be the daemon of this home until a signal or `daemon.stop`. Returns the exit code.

    What goes wrong is said on standard error as "Error: SENTENCE", with a hint on the next line.
    """
    try:
        config = configuration.load(places.config_file, overrides)
        prepare_directories(places)
        with (
            locked_home(places.lock),
            open_log(places.log, config.text("log.level"), terminal=foreground) as log,
        ):
            return _run_locked(places, config, log, foreground=foreground, load=load)
    except P2PShareError as error:
        print(f"Error: {error.message}", *([error.hint] if error.hint else []), sep="\n", file=sys.stderr, flush=True)
        return error.about.exit_code


def _run_locked(places: Places, config: Config, log: Log, *, foreground: bool, load: Load) -> int:
    try:
        identity = load_or_create(places.identity)
        host = ProcessHost(config, identity.peer_id, log, time.monotonic)
        logger.info("starting as process %d", os.getpid())
        _raise_descriptor_limit()
        trio.run(Life(places, config, identity, host, log, foreground=foreground, load=load).live)
    except Exception as error:  # the process's own edge: whatever it is goes to the log and becomes an exit code
        known = _known(error)
        if known is not None:
            logger.error("%s", known.message)
            raise known from error
        logger.critical("the daemon ended by a defect", exc_info=error)
        raise LocalError("the daemon ended by a defect", hint=f"See {log.path}.", kind="internal") from error
    logger.info("stopped")
    return 0


def _raise_descriptor_limit() -> None:
    """Connections and shared files each take a descriptor; the usual soft limit of 1024 is there for select(2) only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _known(error: BaseException) -> P2PShareError | None:
    """The error of ours in it, which nurseries may have wrapped; None when there is something else too."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, P2PShareError) else None


class Life:
    """The parts of one run of the daemon."""

    def __init__(
        self,
        places: Places,
        config: Config,
        identity: Identity,
        host: ProcessHost,
        log: Log,
        *,
        foreground: bool,
        load: Load,
    ) -> None:
        self._places = places
        self._config = config
        self._identity = identity
        self._host = host
        self._log = log
        self._foreground = foreground
        self._load = load
        self._may_close = trio.Event()  # the deadline runs: whatever the node does now, the process will end

    async def live(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals)
                async with open_server(self._places.socket, self._host) as server:
                    await self._with_node(server)
                nursery.cancel_scope.cancel()

    async def _with_node(self, server: ControlServer) -> None:
        """Build the node, serve until the stop, and close it in time."""
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(self._end_in_time, scope, server)
            with scope:
                await self._node_life()
            if scope.cancelled_caught and self._host.was_ready:
                logger.warning("the node was closed by force")
            nursery.cancel_scope.cancel()

    async def _node_life(self) -> None:
        try:
            open_node = await trio.to_thread.run_sync(self._load, abandon_on_cancel=True)  # type: ignore[call-arg]  # stubs are old
            async with open_node(self._config, self._identity, self._places, time.time) as node:
                gc.freeze()
                gc.set_threshold(*_GARBAGE)
                self._host.set_ready(node)
                await self._say_ready(node)
                await self._may_close.wait()
        except Exception as error:  # told to those who wait for the node; raised again
            known = _known(error)
            self._host.set_problem(known or LocalError("the node could not start", kind="internal"))
            raise

    async def _end_in_time(self, scope: trio.CancelScope, server: ControlServer) -> None:
        """From the stop on: streams end, the node has its seconds, and what is stuck then is named."""
        await self._host.stopping.wait()
        logger.info("stopping")
        notify("STOPPING=1")
        with bounded_stop():
            await server.end_requests(deadline.REQUESTS_TIME)
            self._may_close.set()
            if self._host.was_ready:
                await trio.sleep(deadline.CLOSE_TIME)
                name_stuck_tasks()
            scope.cancel()  # an import or a start that is under way is not worth waiting for
            await trio.sleep_forever()

    async def _say_ready(self, node: Node) -> None:
        about = await node.id()
        logger.info("ready as %s at %s", about["peer_id"], ", ".join(about["addresses"]) or "no address")
        notify("READY=1")
        if self._foreground:
            print("ready", about["peer_id"], *about["addresses"], flush=True)
        else:
            _leave_terminal()

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._log.reopen()
                logger.info("the log was reopened")
            else:
                logger.info("stop asked for by %s", signal.Signals(number).name)
                self._host.stop()


def _leave_terminal() -> None:
    """In the background, who started us has gone once we are ready: nothing may be written to its terminal or pipe."""
    with open(os.devnull, "r+b", buffering=0) as nothing:
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)
