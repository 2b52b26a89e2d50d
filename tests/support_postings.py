"""Nodes on loopback that keep and place postings, over a DHT that is told who is near."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from p2pshare.dht.api import DHT, Provider, Receipt
from p2pshare.identity import Identity, identity_of
from p2pshare.index import CatalogueTier, DhtTier, IndexServer, Keeper, Placer, Regions
from p2pshare.net.api import Network
from p2pshare.search import search
from p2pshare.store import Store, open_store
from p2pshare_protocols.cid import CID
from p2pshare_protocols.query import parse
from tests.support_net import key_pair, network
from tests.support_search import at_once, collector

NOW = 1_767_225_600.0


class KnownDHT(DHT):
    """Every node is near every key; nobody provides anything but those in `providers`."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self.near: list[Provider] = []
        self.providers: list[Provider] = []
        self.lookups = 0

    async def provide(self, cid: CID) -> Receipt:
        await trio.lowlevel.checkpoint()
        return Receipt(0, 0)

    def find_providers(self, cid: CID) -> AbstractAsyncContextManager[AsyncIterator[Provider]]:
        return self._providers()

    @asynccontextmanager
    async def _providers(self) -> AsyncIterator[AsyncIterator[Provider]]:
        send, receive = trio.open_memory_channel[Provider](100)
        for provider in self.providers:
            send.send_nowait(provider)
        send.close()
        with receive:
            yield receive

    async def find_peer(self, peer_id: str) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return ()

    async def closest(self, key: bytes, count: int) -> list[Provider]:
        await trio.lowlevel.checkpoint()
        self.lookups += 1
        return [one for one in self.near if one.peer_id != self._net.peer_id][:count]

    async def put_value(self, *_: object, **__: object) -> Receipt:
        raise NotImplementedError

    async def get_value(self, *_: object, **__: object) -> bytes | None:
        raise NotImplementedError

    def status(self) -> dict[str, object]:
        return {"nodes": len(self.near), "mode": "server", "records": 0}


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Node:
    net: Network
    store: Store
    dht: KnownDHT
    keeper: Keeper
    placer: Placer
    tier: DhtTier
    publisher: Identity
    clock: Clock

    def provider(self) -> Provider:
        return Provider(self.net.peer_id, tuple(one.rpartition("/p2p/")[0] for one in self.net.addresses()))

    async def search(self, words: str, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """(the last event of each result, the done event); local rows too."""
        events, emit = collector()
        tiers = [CatalogueTier(self.store, self.net.peer_id, run=at_once), self.tier]
        with trio.fail_after(20):
            done = await search(tiers, parse(words), emit, **options)
        return list({event["cid"]: event for event in events}.values()), done


@dataclass
class Nodes:
    nodes: list[Node] = field(default_factory=list)

    def meet(self) -> None:
        """All know all."""
        for node in self.nodes:
            node.dht.near = [other.provider() for other in self.nodes]
            for other in self.nodes:
                node.net.add_addresses(other.net.peer_id, other.provider().addresses)


@asynccontextmanager
async def node(number: int, directory: Path, clock: Clock) -> AsyncIterator[Node]:
    with open_store(directory / str(number), wall_clock=clock) as store:
        async with network(number) as net:
            dht = KnownDHT(net)
            keeper = Keeper(net, store, wall_clock=clock, rng=random.Random(number))
            IndexServer(net, store, keeper=keeper, run=at_once)
            regions = Regions(dht, net)
            publisher = identity_of(key_pair(1000 + number).private)
            placer = Placer(store, net, dht, publisher, regions, files_inside=100, wall_clock=clock)
            tier = DhtTier(net, dht, regions, keeper=keeper, rng=random.Random(number))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(placer.run)
                yield Node(net, store, dht, keeper, placer, tier, publisher, clock)
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def nodes(count: int, directory: Path, clock: Clock | None = None) -> AsyncIterator[list[Node]]:
    """`count` nodes that know each other."""
    clock = clock or Clock()
    group = Nodes()
    async with AsyncExitStack() as stack:
        for number in range(1, count + 1):
            group.nodes.append(await stack.enter_async_context(node(number, directory, clock)))
        group.meet()
        yield group.nodes
