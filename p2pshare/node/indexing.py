"""The parts of keyword search, joined as the configuration says: serving, publishing, the tiers to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from p2pshare.config import Config
from p2pshare.dht import DHT
from p2pshare.identity import load_or_create
from p2pshare.index import (
    CatalogueTier,
    DhtTier,
    HotAnswers,
    IndexServer,
    Keeper,
    PeerTier,
    Placer,
    Prover,
    Regions,
    Tier,
)
from p2pshare.index.people import People
from p2pshare.net.api import Network
from p2pshare.publish import Post
from p2pshare.store import Store
from p2pshare_protocols.places import Places

_SIGNED_BY = "index.publisher"  # in the catalogue: whose key its records were signed with


@dataclass(frozen=True, slots=True)
class Index:
    """`post` makes an item's words findable; None when nothing is published. `wake`: something is shared no more.
    `publisher`: the peer ID of the key that signs, "" when nothing is published."""

    tiers: list[Tier]
    people: People
    publisher: str
    post: Post | None = None
    wake: Callable[[], None] = lambda: None


@asynccontextmanager
async def open_index(
    config: Config, store: Store, network: Network, dht: DHT, places: Places, *, wall_clock: Callable[[], float]
) -> AsyncIterator[Index]:
    """Serves and publishes until the context is left."""
    regions = Regions(dht, network)
    keeper = None
    if config.flag("index.serve"):
        keeper = Keeper(network, store, wall_clock=wall_clock)
        keeper.hot = HotAnswers(network, dht, regions, keeper.tell)
        IndexServer(network, store, keeper=keeper)
    mine = [network.peer_id]
    key = Path(places.publisher_key)
    if config.flag("index.publish") or await trio.Path(key).exists():
        publisher = load_or_create(key)
        mine.append(publisher.peer_id)
        _sign_as(store, publisher.peer_id)
    people = People(store, mine=mine, trusted=config.texts("index.trusted"))
    tiers: list[Tier] = [
        CatalogueTier(store, network.peer_id),
        PeerTier(network),
        DhtTier(network, dht, regions, keeper=keeper, trusted=people.vouched, wall_clock=wall_clock),
    ]
    placer = None
    if config.flag("index.publish"):
        inside = config.number("index.files_inside")
        placer = Placer(store, network, dht, publisher, regions, files_inside=inside, wall_clock=wall_clock)
    async with trio.open_nursery() as nursery:
        if keeper is not None:
            nursery.start_soon(keeper.tidy)
            if keeper.hot is not None:
                nursery.start_soon(keeper.hot.run)
            nursery.start_soon(Prover(network, store, wall_clock=wall_clock).run)
        if placer is not None:
            nursery.start_soon(placer.run)
        name = mine[-1] if placer is not None else ""
        yield Index(tiers, people, name) if placer is None else Index(tiers, people, name, placer.post, placer.wake)
        nursery.cancel_scope.cancel()


def _sign_as(store: Store, publisher: str) -> None:
    """With another key than before, what was signed is of no use: it is signed and placed anew. What stands in the
    network under the old key ends there for want of heartbeats."""
    if store.get_meta(_SIGNED_BY) not in (None, publisher):
        store.own_postings.start_over()
    store.set_meta(_SIGNED_BY, publisher)
