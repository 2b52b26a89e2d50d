"""Nodes for the tests of search: a catalogue with items in it, and networks in memory where time is virtual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
import trio.testing

from p2pshare.errors import RemoteError
from p2pshare.index.rows import Found
from p2pshare.net.api import Network, PeerInfo, Stream, StreamHandler
from p2pshare.store import Store
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from p2pshare_protocols.index_messages import PROTOCOL
from tests.support_store import draft


async def at_once(work: Callable[[], Found]) -> Found:
    """Searches run where they are asked for: virtual time jumps ahead while only a thread works."""
    return work()


def add_file(store: Store, name: str, **changes: object) -> CID:
    """An item in the catalogue whose content is its name."""
    cid = CID.of(RAW, name.encode("utf-8", "surrogateescape"))
    store.items.add(draft(name, **{"cid": cid, **changes}))
    return cid


def add_directory(store: Store, name: str, paths: list[str], **changes: object) -> CID:
    cid = CID.of(DAG_PB, name.encode())
    with store.transaction():
        item = store.items.add(draft(name, cid=cid, kind="directory", files=len(paths), **changes))
        rows = [(path, path.rpartition("/")[2], CID.of(RAW, path.encode()), 10, "file") for path in paths]
        store.items.add_names(item.id, rows)
    return cid


class MemoryStream(Stream):
    """One end of a stream in memory; `protocol` is agreed already."""

    def __init__(self, peer_id: str, inner: trio.StapledStream[Any, Any]) -> None:
        self.peer_id = peer_id
        self.protocol = PROTOCOL
        self._inner = inner
        self.closed: Callable[[], None] = lambda: None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return cast("bytes", await self._inner.receive_some(max_bytes))

    async def receive_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            more = await self.receive_some(count - len(data))
            if not more:
                raise trio.BrokenResourceError
            data += more
        return bytes(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def aclose(self) -> None:
        self.closed()
        await self._inner.aclose()

    async def reset(self) -> None:
        await trio.aclose_forcefully(self._inner)


class MemoryNetwork:
    """As much of a Network as search sees: connected peers, each with the handler that answers as it."""

    def __init__(self, nursery: trio.Nursery, peer_id: str = "me") -> None:
        self.peer_id = peer_id
        self.handler: StreamHandler | None = None
        self._nursery = nursery
        self._peers: dict[str, StreamHandler] = {}
        self._silent: set[str] = set()
        self.open_at_once = 0
        self.most_at_once = 0

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        assert protocol == PROTOCOL
        self.handler = handler

    def add_peer(self, peer_id: str, handler: StreamHandler, *, identified: bool = True) -> None:
        self._peers[peer_id] = handler
        if not identified:
            self._silent.add(peer_id)

    def peers(self) -> list[PeerInfo]:
        return [PeerInfo(peer_id, "", "out", 0.0) for peer_id in [*self._peers, "deaf"]]

    def protocols_of(self, peer_id: str) -> frozenset[str]:
        if peer_id == "deaf":
            return frozenset({"/ipfs/ping/1.0.0"})
        return frozenset() if peer_id in self._silent else frozenset({PROTOCOL})

    async def open_stream(self, peer_id: str, protocols: list[str], *, timeout: float = 10.0) -> Stream:
        assert protocols == [PROTOCOL]
        if peer_id in self._silent:
            raise RemoteError("it speaks none of them", kind="failed")
        ours, theirs = trio.testing.memory_stream_pair()
        self.open_at_once += 1
        self.most_at_once = max(self.most_at_once, self.open_at_once)
        self._nursery.start_soon(self._serve, self._peers[peer_id], MemoryStream(self.peer_id, theirs))
        stream = MemoryStream(peer_id, ours)
        stream.closed = self._closed
        return stream

    def _closed(self) -> None:
        self.open_at_once -= 1

    async def _serve(self, handler: StreamHandler, stream: Stream) -> None:
        try:
            await handler(stream)
        except (RemoteError, trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.reset()

    @property
    def net(self) -> Network:
        return cast("Network", self)


def collector() -> tuple[list[dict[str, Any]], Callable[[dict[str, Any]], Awaitable[None]]]:
    """A list and the `emit` that fills it."""
    events: list[dict[str, Any]] = []

    async def emit(event: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        events.append(event)

    return events, emit
