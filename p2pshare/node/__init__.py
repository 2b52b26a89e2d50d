"""The node: builds the parts in their order, owns the nursery, and answers the control methods.

It may use every part below it. It must not know the control socket's framing, nor the process around it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import trio

from p2pshare import fetch, publish
from p2pshare.config import Config
from p2pshare.content import BlockReader
from p2pshare.dht import open_dht
from p2pshare.exchange.server import ExchangeServer
from p2pshare.fetch import FetchParts
from p2pshare.identity import Identity
from p2pshare.jobs import JobManager
from p2pshare.net import limits_from, open_network
from p2pshare.node.announcing import Announcer
from p2pshare.node.doctor import Doctor
from p2pshare.node.indexing import open_index
from p2pshare.node.running import RunningNode
from p2pshare.node.upkeep import keep_up
from p2pshare.store import open_store
from p2pshare_protocols.places import Places

FETCHES_AT_ONCE = 4
SHARES_AT_ONCE = 2


@asynccontextmanager
async def open_node(
    config: Config, identity: Identity, places: Places, wall_clock: Callable[[], float]
) -> AsyncIterator[RunningNode]:
    """The node of a home, from the catalogue up to the jobs; leaving it closes them in reverse order."""
    rng = random.SystemRandom()
    with open_store(Path(places.catalogue), wall_clock=wall_clock) as store:
        async with (
            open_network(
                identity,
                listen=config.texts("network.listen"),
                bootstrap=config.texts("network.bootstrap"),
                rendezvous_lan="lan" in config.texts("network.rendezvous"),
                allow_private_addresses=config.flag("network.allow_private_addresses"),
                limits=limits_from(config.values),
                remembered=store.peers,
            ) as network,
            trio.open_nursery() as nursery,
        ):
            announcer = Announcer(store, wall_clock)
            async with open_dht(
                network,
                store,
                networks=config.texts("dht.networks"),
                mode=config.text("dht.mode"),  # type: ignore[arg-type]  # the schema allows these three only
                allow_private=config.flag("network.allow_private_addresses"),
                wall_clock=wall_clock,
                announced=announcer.announced,
                reannounced=announcer.reannounced,
                rate=float(config.number("dht.announce_rate")),
            ) as dht:
                announcer.attach(dht, nursery)
                with closing(BlockReader(store, wall_clock=wall_clock)) as reader:
                    exchange = ExchangeServer(network, reader, store, upload_rate=config.number("limits.upload"))
                    parts = FetchParts(
                        network=network,
                        store=store,
                        reader=reader,
                        partials=exchange.partials,
                        dht=dht,
                        announce=announcer.soon,
                        random_start=functools.partial(rng.getrandbits, 32),
                        wall_clock=wall_clock,
                        download_rate=config.number("limits.download"),
                    )
                    async with (
                        open_index(config, store, network, dht, places, wall_clock=wall_clock) as index,
                        JobManager(store) as jobs,
                    ):
                        node = RunningNode(
                            store=store,
                            network=network,
                            dht=dht,
                            reader=reader,
                            jobs=jobs,
                            tiers=index.tiers,
                            doctor=Doctor(config=config, places=places, network=network, dht=dht, store=store),
                            wall_clock=wall_clock,
                            quota=config.number("storage.quota"),
                            index_changed=index.wake,
                        )
                        jobs.register(
                            "share",
                            functools.partial(node.run_share, announcer.provide, announcer.later, index.post),
                            limit=SHARES_AT_ONCE,
                            discard=functools.partial(publish.discard, store),
                        )
                        jobs.register(
                            "fetch",
                            lambda job: fetch.fetch(parts, job.params, job),
                            limit=FETCHES_AT_ONCE,
                            discard=lambda job: fetch.discard(store.jobs.load_blob(job.id)),
                        )
                        jobs.recover()
                        nursery.start_soon(keep_up, store)
                        yield node
            nursery.cancel_scope.cancel()


__all__ = ["RunningNode", "open_node"]
