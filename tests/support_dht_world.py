"""Nodes with their DHT and store over the in-memory network, and liars among them, for the DHT's tests."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from p2pshare.dht import DHT, open_dht
from p2pshare.dht.engine import OURS
from p2pshare.net.api import Stream
from p2pshare.store import Store, open_store
from p2pshare_protocols import kad_messages, peerid
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.kad_messages import Peer
from tests.support_dht import Board, FakeNetwork

FILE = CID.of(RAW, b"a file")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """Nodes with their DHT and store. Leaving it closes everything."""

    def __init__(self, directory: Path, nursery: trio.Nursery, stores: ExitStack) -> None:
        self.board = Board(nursery)
        self.clock = Clock()
        self._directory = directory
        self._nursery = nursery
        self._stores = stores

    def store(self, net: FakeNetwork) -> Store:
        directory = self._directory / net.peer_id
        directory.mkdir()
        return self._stores.enter_context(open_store(directory))

    async def node(self, *, listens: bool = True, **options: Any) -> tuple[FakeNetwork, DHT, Store]:
        net = self.board.node(listens=listens)
        store = self.store(net)
        options = {"allow_private": True, "rng": random.Random(1), "wall_clock": self.clock} | options
        return net, await self._nursery.start(self._serve, net, store, options), store

    async def _serve(self, net: FakeNetwork, store: Store, options: Any, task_status: Any) -> None:
        async with open_dht(net, store, **options) as dht:
            task_status.started(dht)
            await trio.sleep_forever()

    async def nodes(self, count: int) -> list[tuple[FakeNetwork, DHT, Store]]:
        """`count` servers, each of which dialled the first."""
        nodes = [await self.node() for _ in range(count)]
        for net, _, _ in nodes[1:]:
            await net.connect(nodes[0][0].addresses()[0])
        await settle()
        return nodes

    def liar(self, answer: Any) -> FakeNetwork:
        """A server that says `answer(message)` (bytes, already framed) to every question."""
        net = self.board.node()

        async def handle(stream: Stream) -> None:
            try:
                while size := (await stream.receive_exactly(1))[0]:
                    if size & 128:
                        size = size & 127 | (await stream.receive_exactly(1))[0] << 7
                    said = answer(kad_messages.decode(await stream.receive_exactly(size)))
                    if said is None:
                        await trio.sleep_forever()
                    await stream.send_all(said)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.reset()

        net.handle(OURS, handle)
        return net


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    with ExitStack() as stores:
        async with trio.open_nursery() as nursery:
            yield World(directory, nursery, stores)
            nursery.cancel_scope.cancel()


async def settle(seconds: float = 8.0) -> None:
    await trio.sleep(seconds)  # virtual


async def providers(dht: DHT, cid: CID = FILE) -> dict[str, tuple[str, ...]]:
    async with dht.find_providers(cid) as found:
        return {provider.peer_id: provider.addresses async for provider in found}


def strangers(count: int) -> Iterator[Peer]:
    rng = random.Random(9)
    for number in range(count):
        peer_id = peerid.peer_id_from_ed25519(rng.randbytes(32))
        yield Peer(peer_id, (f"/ip4/10.9.{number % 250}.{number // 250 + 1}/tcp/1",))


async def call(asker: FakeNetwork, server: FakeNetwork, *frames: bytes) -> bytes | None:
    """What comes back for raw bytes, None for a reset."""
    await asker.connect(server.addresses()[0])
    stream = await asker.open_stream(server.peer_id, [OURS])
    try:
        for frame in frames:
            await stream.send_all(frame)
        await stream.send_eof()
        out = b""
        while data := await stream.receive_some(1000):
            out += data
        return out
    except trio.BrokenResourceError:
        return None
