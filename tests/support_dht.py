"""An in-memory network for the DHT's tests: streams between nodes of one process, under virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio
from trio.testing import memory_stream_pair

from p2pshare.errors import RemoteError, TimedOut, Unreachable
from p2pshare.net.api import Network, PeerEvent, PeerInfo, Reachability, Stream, StreamHandler
from p2pshare_protocols import multiaddr, peerid


class MemoryStream(Stream):
    def __init__(self, inner: trio.StapledStream, peer_id: str, protocol: str, broken: trio.Event) -> None:
        self._inner = inner
        self._broken = broken
        self.peer_id = peer_id
        self.protocol = protocol

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._inner.receive_some(max_bytes)
        if not data and self._broken.is_set():
            raise trio.BrokenResourceError
        return data

    async def receive_exactly(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            data = await self.receive_some(count - len(out))
            if not data:
                raise trio.BrokenResourceError
            out += data
        return out

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._broken.is_set():
            raise trio.BrokenResourceError
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def reset(self) -> None:
        self._broken.set()
        await trio.aclose_forcefully(self._inner)


class FakeNetwork(Network):
    """One node. `board` knows all of them; dialling needs an address, as in life."""

    def __init__(self, board: Board, number: int, listens: bool) -> None:
        self.peer_id = peerid.peer_id_from_ed25519(hashlib.sha256(b"%d" % number).digest())
        self.board = board
        self.address = f"/ip4/10.{number >> 8 & 255}.{number & 255}.1/tcp/4001"
        self.listens = listens
        self.handlers: dict[str, StreamHandler] = {}
        self.book: dict[str, list[str]] = {}
        self.connected: set[str] = set()
        self.subscribers: list[trio.MemorySendChannel[PeerEvent]] = []
        self.dead = False
        self.opened = 0
        self.reach = Reachability("private", "")

    def addresses(self) -> list[str]:
        return [f"{self.address}/p2p/{self.peer_id}"] if self.listens else []

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        self.handlers[protocol] = handler

    def unhandle(self, protocol: str) -> None:
        if self.handlers.pop(protocol, None):
            for peer_id in self.connected:
                for subscriber in self.board.nodes[peer_id].subscribers:
                    subscriber.send_nowait(PeerEvent("identified", self.peer_id))

    def reachability(self) -> Reachability:
        return self.reach

    async def open_stream(self, peer_id: str, protocols: Sequence[str], *, timeout: float = 10.0) -> Stream:
        await trio.lowlevel.checkpoint()
        other = self.board.nodes.get(peer_id)
        if other is None or (not self.book.get(peer_id) and peer_id not in self.connected):
            raise Unreachable("nobody there")
        if other.dead:
            await trio.sleep(timeout)
            raise TimedOut("it hangs")
        self._join(other)
        for protocol in protocols:
            if protocol in other.handlers:
                self.opened += 1
                return self.board.stream(self, other, protocol)
        raise RemoteError("it speaks none of them", kind="failed")

    def _join(self, other: FakeNetwork) -> None:
        if other.peer_id in self.connected:
            return
        for one, two in ((self, other), (other, self)):
            one.connected.add(two.peer_id)
            if two.listens:
                one.add_addresses(two.peer_id, [two.address])
            for what in ("connected", "identified"):
                for subscriber in one.subscribers:
                    subscriber.send_nowait(PeerEvent(what, two.peer_id))

    async def connect(self, address: str, *, timeout: float = 10.0) -> str:
        plain, peer_id = multiaddr.split_peer(address)
        assert peer_id is not None
        await trio.lowlevel.checkpoint()
        self.add_addresses(peer_id, [plain])
        self._join(self.board.nodes[peer_id])
        return peer_id

    async def disconnect(self, peer_id: str) -> None:
        self.connected.discard(peer_id)
        self.board.nodes[peer_id].connected.discard(self.peer_id)

    def peers(self) -> list[PeerInfo]:
        return [PeerInfo(p, self.board.nodes[p].address, "out", 0.0) for p in self.connected]

    def is_connected(self, peer_id: str) -> bool:
        return peer_id in self.connected

    def protocols_of(self, peer_id: str) -> frozenset[str]:
        return frozenset(self.board.nodes[peer_id].handlers) if peer_id in self.connected else frozenset()

    def add_addresses(self, peer_id: str, addresses: Sequence[str], *, ttl: float = 3600.0) -> None:
        known = self.book.setdefault(peer_id, [])
        known.extend(a for a in addresses if a not in known and multiaddr.dialable(a))

    def addresses_of(self, peer_id: str) -> list[str]:
        return self.book.get(peer_id, [])

    @contextmanager
    def events(self) -> Iterator[trio.MemoryReceiveChannel[PeerEvent]]:
        send, receive = trio.open_memory_channel[PeerEvent](1024)
        self.subscribers.append(send)
        try:
            with send, receive:
                yield receive
        finally:
            self.subscribers.remove(send)

    def status(self) -> dict[str, object]:
        return {}


class Board:
    """All nodes of a test. Streams' handlers run in `nursery`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.nodes: dict[str, FakeNetwork] = {}

    def node(self, *, listens: bool = True) -> FakeNetwork:
        made = FakeNetwork(self, len(self.nodes) + 1, listens)
        self.nodes[made.peer_id] = made
        return made

    def stream(self, one: FakeNetwork, two: FakeNetwork, protocol: str) -> Stream:
        near, far = memory_stream_pair()
        broken = trio.Event()
        self.nursery.start_soon(two.handlers[protocol], MemoryStream(far, one.peer_id, protocol, broken))
        return MemoryStream(near, two.peer_id, protocol, broken)
