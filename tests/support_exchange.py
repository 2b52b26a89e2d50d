"""Nodes joined in memory, and small helpers for exchange and fetch tests. No sockets, no real time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing

from p2pshare.content.reader import BlockReader
from p2pshare.errors import LocalError, NotFound, RemoteError, Unreachable
from p2pshare.exchange.server import ExchangeServer
from p2pshare.fetch import FetchParts, fetch
from p2pshare.net.api import Network, PeerEvent, PeerInfo, Stream, StreamHandler
from p2pshare.publish import ShareOptions, share
from p2pshare.store import Store, open_store
from p2pshare_protocols.cid import CID


class MemoryStream(Stream):
    """One end of a stream in memory, with a window: a sender waits while 256 KiB are not read."""

    WINDOW = 256 << 10

    def __init__(self, peer_id: str, protocol: str) -> None:
        self.peer_id = peer_id
        self.protocol = protocol
        self._buffer = bytearray()
        self._eof = False
        self._broken = False
        self._change = trio.Condition()
        self.other: MemoryStream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        other = self.other
        while True:
            async with other._change:
                while len(other._buffer) >= self.WINDOW and not other._broken:
                    await other._change.wait()
                if other._broken or self._broken:
                    raise trio.BrokenResourceError("reset")
                room = self.WINDOW - len(other._buffer)
                other._buffer += rest[:room]
                rest = rest[room:]
                other._change.notify_all()
            if not rest:
                return

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        async with self.other._change:
            self.other._eof = True
            self.other._change.notify_all()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        async with self._change:
            while not self._buffer and not self._eof and not self._broken:
                await self._change.wait()
            if self._broken:
                raise trio.BrokenResourceError("reset")
            count = min(len(self._buffer), max_bytes or 65536)
            data = bytes(self._buffer[:count])
            del self._buffer[:count]
            self._change.notify_all()
            return data

    async def receive_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self.receive_some(count - len(data))
            if not more:
                raise trio.BrokenResourceError("short")
            data += more
        return data

    async def aclose(self) -> None:
        await self.send_eof()

    async def reset(self) -> None:
        with trio.CancelScope(shield=True):
            for end in (self, self.other):
                async with end._change:
                    end._broken = True
                    end._change.notify_all()


def stream_pair(first: str, second: str, protocol: str) -> tuple[MemoryStream, MemoryStream]:
    """The end that `first` holds (its peer is `second`), and the other one."""
    one, two = MemoryStream(second, protocol), MemoryStream(first, protocol)
    one.other, two.other = two, one
    return one, two


@dataclass
class World:
    """All nodes of a test; `nursery` runs their handlers."""

    nursery: trio.Nursery
    nodes: dict[str, MemoryNetwork] = field(default_factory=dict)

    def node(self, name: str) -> MemoryNetwork:
        self.nodes[name] = MemoryNetwork(self, name)
        return self.nodes[name]


class MemoryNetwork(Network):
    def __init__(self, world: World, peer_id: str) -> None:
        self.world = world
        self.peer_id = peer_id
        self.handlers: dict[str, StreamHandler] = {}
        self.opened: list[str] = []
        self._subscribers: list[trio.MemorySendChannel[PeerEvent]] = []
        self.connected: set[str] = set()

    def addresses(self) -> list[str]:
        return [f"/memory/p2p/{self.peer_id}"]

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        self.handlers[protocol] = handler

    async def open_stream(self, peer_id: str, protocols: Sequence[str], *, timeout: float = 10.0) -> Stream:
        await trio.lowlevel.checkpoint()
        other = self.world.nodes.get(peer_id)
        if other is None:
            raise Unreachable(f"{peer_id} is not there")
        for protocol in protocols:
            if protocol in other.handlers:
                mine, theirs = stream_pair(self.peer_id, peer_id, protocol)
                self.connected.add(peer_id)
                self.opened.append(peer_id)
                self.world.nursery.start_soon(_guarded, other.handlers[protocol], theirs)
                return mine
        raise RemoteError("speaks none of them", kind="failed")

    async def connect(self, address: str, *, timeout: float = 10.0) -> str:
        await trio.lowlevel.checkpoint()
        peer_id = address.rpartition("/p2p/")[2]
        if peer_id not in self.world.nodes:
            raise Unreachable(f"{peer_id} is not there")
        self.join(peer_id)
        return peer_id

    def join(self, peer_id: str) -> None:
        """Be connected, as if the peer had dialled us."""
        self.connected.add(peer_id)
        for subscriber in self._subscribers:
            subscriber.send_nowait(PeerEvent("identified", peer_id))

    async def disconnect(self, peer_id: str) -> None:
        self.connected.discard(peer_id)

    def peers(self) -> list[PeerInfo]:
        return [PeerInfo(peer, f"/memory/p2p/{peer}", "out", 0.0) for peer in sorted(self.connected)]

    def is_connected(self, peer_id: str) -> bool:
        return peer_id in self.connected

    def protocols_of(self, peer_id: str) -> frozenset[str]:
        other = self.world.nodes.get(peer_id)
        return frozenset(other.handlers) if other is not None else frozenset()

    def add_addresses(self, peer_id: str, addresses: Sequence[str], *, ttl: float = 3600.0) -> None:
        pass

    def addresses_of(self, peer_id: str) -> list[str]:
        return []

    @contextmanager
    def events(self) -> Iterator[trio.MemoryReceiveChannel[PeerEvent]]:  # type: ignore[override]
        send, receive = trio.open_memory_channel[PeerEvent](1024)
        self._subscribers.append(send)
        try:
            yield receive
        finally:
            self._subscribers.remove(send)
            send.close()
            receive.close()

    def status(self) -> dict[str, object]:
        return {}


async def _guarded(handler: Callable[[Stream], Awaitable[None]], stream: MemoryStream) -> None:
    """As the real network: a handler's exception resets the stream and ends nothing else."""
    try:
        await handler(stream)
    except Exception:  # noqa: BLE001 - as the network does
        await stream.reset()


class DictReader:
    """Blocks from a dict; `changed` ones raise SourceChanged in the reader's place."""

    def __init__(self, blocks: dict[bytes, bytes]) -> None:
        self.blocks = blocks
        self.reads: list[bytes] = []
        self.failing: dict[bytes, Exception] = {}
        self.suspected: list[CID] = []

    def suspect(self, cid: CID) -> None:
        self.suspected.append(cid)

    async def read(self, cid: CID) -> bytes:
        await trio.lowlevel.checkpoint()
        self.reads.append(cid.v1.binary)
        failure = self.failing.get(cid.v1.binary)
        if failure is not None:
            raise failure
        try:
            return self.blocks[cid.v1.binary]
        except KeyError:
            raise NotFound("no such block") from None

    async def read_into(self, cids: Sequence[CID], buffer: memoryview) -> list[int | LocalError]:
        sizes: list[int | LocalError] = []
        at = 0
        for cid in cids:
            try:
                block = await self.read(cid)
            except LocalError as error:
                return [*sizes, error]
            if at + len(block) > len(buffer):
                break
            buffer[at : at + len(block)] = block
            at += len(block)
            sizes.append(len(block))
        return sizes


class Job:
    """What fetch and share need of a job, kept in memory."""

    def __init__(self, id: int = 1) -> None:
        self.id = id
        self.priority = 0
        self.name: str | None = None
        self.cid: object = None
        self.reasons: list[str] = []
        self.seen: list[tuple[int, int | None]] = []
        self.blob: bytes | None = None
        self.saved = 0

    def progress(self, bytes: int, total: int | None = None, **extra: object) -> None:
        self.seen.append((bytes, total))

    def reason(self, text: str) -> None:
        if not self.reasons or self.reasons[-1] != text:
            self.reasons.append(text)

    def set(self, *, cid: object = None, name: str | None = None) -> None:
        self.cid, self.name = cid or self.cid, name or self.name

    def save_blob(self, data: bytes) -> None:
        self.blob = data
        self.saved += 1

    def load_blob(self) -> bytes | None:
        return self.blob


@dataclass
class Node:
    """A node with a real store and real files, on whatever network."""

    network: Network
    store: Store
    reader: BlockReader
    server: ExchangeServer
    directory: Path

    def parts(self, **changes: object) -> FetchParts:
        values: dict[str, object] = {
            "network": self.network,
            "store": self.store,
            "reader": self.reader,
            "partials": self.server.partials,
            "grace": 0.3,
        }
        return FetchParts(**{**values, **changes})  # type: ignore[arg-type]

    async def share(self, path: Path) -> str:
        """The CID."""
        options = ShareOptions(paths=(str(path),))
        return str((await share(store=self.store, options=options, job=Job(99), announce=None))["cid"])

    async def fetch(self, link: str, path: Path, *, job: Job | None = None, **params: object) -> dict[str, object]:
        params = {"link": link, "path": str(path), **params}
        return await fetch(self.parts(), params, job or Job())


@asynccontextmanager
async def node(network: Network, directory: Path) -> AsyncIterator[Node]:
    directory.mkdir()
    home = directory / "home"
    home.mkdir()
    with open_store(home) as store:
        async with BlockReader(store) as reader:
            server = ExchangeServer(network, reader, store)
            yield Node(network, store, reader, server, directory)
