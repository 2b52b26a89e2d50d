"""Coverage-guided fuzzing of a whole node: the node runs in a thread, instrumented; the fuzzer is a peer on loopback.

What must hold for every input: the node reacts (answers, resets or closes), its thread spends little and holds little,
nothing but our own kind of error comes up inside, and an honest peer on a connection of its own is answered meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from p2pshare_protocols import multistream
from tests.fuzz import live_client, targets
from tests.fuzz.limits import LARGE, SLOW, SLOWED, TRIES

if TYPE_CHECKING:  # the fuzzer imports them anew, instrumented
    from p2pshare.net.switch import Switch
    from p2pshare.node import RunningNode

HONEST_EVERY = 100  # inputs between two honest pings
TELL_EVERY = 1000
START_SECONDS = 120.0
_SAID = {  # what is said to each protocol at first: the seeds of which parser, how framed (see Secured.seed)
    "/p2pshare/exchange/1.0.0": ("exchange_messages", 1),
    "/p2pshare/index/1.0.0": ("index_messages", 1),
    "/p2pshare/kad/1.0.0": ("kad_messages", 2),
    "/ipfs/id/push/1.0.0": ("identify", 2),
    "/ipfs/ping/1.0.0": ("noise", 0),
}


class Node(threading.Thread):
    """A node with all its handlers, on a free port of loopback, in a thread of its own.

    defects: tracebacks that it logged, and what ended it. cpu: seconds that its thread has spent.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.defects: list[str] = []
        self.port = 0
        self._node: RunningNode
        self._token: trio.lowlevel.TrioToken
        self.protocols: tuple[str, ...] = ()
        self._home = home
        self._up = threading.Event()
        self._leave = trio.Event()

    def run(self) -> None:
        watcher = logging.Handler(logging.WARNING)
        watcher.emit = self._noted  # type: ignore[method-assign]
        logging.getLogger().addHandler(watcher)
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the fuzzer has to know
            self.defects.append(f"the node ended: {error!r}")
        finally:
            logging.getLogger().removeHandler(watcher)
            self._up.set()

    def _noted(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.defects.append(logging.Formatter().format(record))

    async def _serve(self) -> None:
        from p2pshare.config import find_places, load
        from p2pshare.identity import load_or_create
        from p2pshare.net.switch import Switch
        from p2pshare.node import open_node

        settings = ['network.listen=["/ip4/127.0.0.1/tcp/0"]', "network.rendezvous=[]", 'dht.mode="server"']
        config = load(self._home / "config.toml", [*settings, "network.allow_private_addresses=true"])
        places = find_places({"P2PSHARE_HOME": str(self._home)})
        identity = load_or_create(self._home / "identity.key")
        async with open_node(config, identity, places, time.time) as node:
            switch = node._network
            assert isinstance(switch, Switch)
            # Else the guard would let in twenty handshakes a second.
            switch._share._share, switch._share._ahead = 100.0, 100.0
            self.port = int(switch.addresses()[0].split("/")[4])
            self.protocols = tuple(sorted(switch.handlers))
            self._node = node
            self._switch: Switch = switch
            self._token = trio.lowlevel.current_trio_token()
            self._up.set()
            await self._leave.wait()

    def await_start(self) -> None:
        if not self._up.wait(START_SECONDS) or self.defects:
            raise AssertionError(f"the node did not start: {self.defects}")

    @property
    def cpu(self) -> float:
        assert self.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self.ident))

    def ask_status(self) -> None:
        """What the control socket's `status` asks, answered by the node's own loop."""
        trio.from_thread.run(self._node.status, trio_token=self._token)

    def handle(self, protocol: str, handler: Callable[[Any], Awaitable[None]]) -> None:
        trio.from_thread.run_sync(self._switch.handle, protocol, handler, trio_token=self._token)

    def end(self) -> None:
        self._token.run_sync_soon(self._leave.set)
        self.join()


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * 4096


class Watch:
    """Calls `say` with each input, and holds the node to its limits."""

    def __init__(self, node: Node, say: Callable[[bytes], None]) -> None:
        self._node = node
        self._say = say
        self._honest: live_client.Session | None = None
        self._inputs = 0
        self._slowest = 0.0

    def one(self, data: bytes) -> None:
        try:
            self._one(data)
        except BaseException:
            print(f"raised for {data.hex()}", flush=True)
            raise

    def _one(self, data: bytes) -> None:
        cpu, grown = self._measured(data)
        self._slowest = max(self._slowest, cpu)
        if cpu > SLOW * SLOWED or grown > LARGE:
            tries = [self._measured(data) for _ in range(TRIES)]
            cpu, grown = min(seconds for seconds, _ in tries), min(size for _, size in tries)
            if cpu > SLOW * SLOWED or grown > LARGE:
                raise AssertionError(f"an input took {cpu * 1000:.1f} ms and {grown} bytes")
        if self._node.defects:
            raise AssertionError(self._node.defects[0])
        self._inputs += 1
        if self._inputs % HONEST_EVERY == 0:
            self._answers()
        if self._inputs % TELL_EVERY == 0:
            print(f"live:: {self._inputs} inputs, slowest {self._slowest * 1e3:.1f} ms", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._honest is not None:
            self._honest.close()

    def _measured(self, data: bytes) -> tuple[float, int]:
        cpu, size = self._node.cpu, _resident()
        self._say(data)
        return self._node.cpu - cpu, _resident() - size

    def _answers(self) -> None:
        if self._honest is None:
            self._honest = live_client.Session(self._node.port, 999)
        self._honest.ping()
        self._node.ask_status()


def _client_hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["libp2p"])
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


def _bare_seeds() -> list[bytes]:
    hello, greeting = targets.TARGETS["noise"].seeds, live_client.GREETING
    names = {"/noise": hello[0], "/p2pshare/noise-aesgcm/1.0.0": hello[0], "/tls/1.0.0": _client_hello(), "ls": b""}
    return [greeting + multistream.encode(name) + behind for name, behind in names.items()] + [hello[2], greeting]


def _inside_seeds(secured: live_client.Secured, protocols: Sequence[str]) -> list[bytes]:
    seeds = [b"\0" + frames for frames in targets.TARGETS["yamux"].seeds]
    for protocol in protocols:
        parser, framing = _SAID.get(protocol, ("multistream", 0))
        seeds += [secured.seed(protocol, framing, said) for said in targets.TARGETS[parser].seeds]
    return seeds


def fuzz(where: str, seconds: int) -> None:
    """Never returns: the fuzzer ends the process, with 0 when everything held. `where` is "plain" or "secured"."""
    import atheris

    for name in [name for name in sys.modules if name.partition(".")[0] in ("p2pshare", "p2pshare_protocols")]:
        del sys.modules[name]  # the client keeps its own, which are not counted
    with atheris.instrument_imports(include=["p2pshare_protocols", "p2pshare"], enable_loader_override=False):
        import p2pshare.net.opening
        import p2pshare.node  # noqa: F401 - imported here to be instrumented

    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as corpus:
        node = Node(Path(home))
        node.start()
        node.await_start()
        secured = live_client.Secured(node.port, node.protocols)
        plain = where == "plain"
        seeds = _bare_seeds() if plain else _inside_seeds(secured, node.protocols)
        for number, seed in enumerate(seeds):
            Path(corpus, str(number)).write_bytes(seed)
        say = (lambda data: live_client.say_bare(node.port, data)) if plain else secured.say
        options = [f"-max_total_time={seconds}", "-max_len=8192", "-print_final_stats=1", "-artifact_prefix=/dev/null"]
        atheris.Setup([sys.argv[0], *options, "-seed=1", "-len_control=0", corpus], Watch(node, say).one)
        atheris.Fuzz()
