"""Opening a node: its parts in their order, each from the configuration."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import trio

from p2pshare import fetch, publish
from p2pshare.config import Config
from p2pshare.content import BlockReader
from p2pshare.content.metadata import MetadataReader
from p2pshare.dht import DHT, open_dht
from p2pshare.dht.engine import IPFS, Mode
from p2pshare.exchange.limits import keep_schedule
from p2pshare.exchange.server import ExchangeServer, Limits
from p2pshare.fetch import FetchParts
from p2pshare.identity import Identity
from p2pshare.jobs import JobManager
from p2pshare.net import limits_from, open_network
from p2pshare.net.api import Network
from p2pshare.node.announcing import Announcer
from p2pshare.node.doctor import Doctor
from p2pshare.node.indexing import Index, open_index
from p2pshare.node.meeting import Meeting
from p2pshare.node.role import keep_role
from p2pshare.node.running import RunningNode
from p2pshare.node.upkeep import keep_up
from p2pshare.node.watching import open_watcher
from p2pshare.store import Store, open_store
from p2pshare_protocols import limit_schedule
from p2pshare_protocols.config_schema import parse_size
from p2pshare_protocols.places import Places

FETCHES_AT_ONCE = 4
SHARES_AT_ONCE = 2

Clock = Callable[[], float]


@asynccontextmanager
async def open_node(
    config: Config, identity: Identity, places: Places, wall_clock: Clock
) -> AsyncIterator[RunningNode]:
    """The node of a home, from the catalogue up to the jobs; leaving it closes them in reverse order."""
    rng = random.SystemRandom()
    with open_store(Path(places.catalogue), wall_clock=wall_clock) as store:
        store.quota.limit = config.number("storage.quota")
        announcer = Announcer(store, wall_clock)
        async with (
            _network(config, identity, store) as network,
            _dht(config, network, store, announcer, wall_clock) as dht,
            trio.open_nursery() as nursery,
        ):
            announcer.attach(dht, nursery)
            meeting = _meeting(config, network=network, dht=dht, store=store, wall_clock=wall_clock, rng=rng)
            with closing(BlockReader(store, wall_clock=wall_clock)) as reader:
                exchange = _exchange(config, network, store, reader)
                parts = _fetch_parts(
                    config,
                    exchange=exchange,
                    network=network,
                    store=store,
                    reader=reader,
                    dht=dht,
                    announcer=announcer,
                    wall_clock=wall_clock,
                    rng=rng,
                )
                nursery.start_soon(_keep_schedule, config, exchange, parts, wall_clock)
                doctor = Doctor(config=config, places=places, network=network, dht=dht, store=store)
                async with (
                    open_index(config, store, network, dht, places, wall_clock=wall_clock) as index,
                    JobManager(store) as jobs,
                ):
                    watcher = open_watcher(store, network, index.tiers, rng=rng, wall_clock=wall_clock)
                    nursery.start_soon(watcher.run)
                    node = RunningNode(
                        store=store,
                        network=network,
                        dht=dht,
                        reader=reader,
                        jobs=jobs,
                        tiers=index.tiers,
                        people=index.people,
                        watcher=watcher,
                        publisher=index.publisher,
                        metadata=MetadataReader(config.texts("index.metadata")),
                        doctor=doctor,
                        wall_clock=wall_clock,
                        index_changed=index.wake,
                        meeting=meeting,
                    )
                    _register_jobs(jobs, node, parts, announcer, index)
                    jobs.recover()
                    nursery.start_soon(keep_up, store)
                    note = functools.partial(store.events.append, "node")
                    changed = meeting.wake if meeting is not None else lambda: None
                    nursery.start_soon(keep_role, network, dht, _mode(config), note, changed)
                    if meeting is not None:
                        nursery.start_soon(meeting.run)
                    yield node
            nursery.cancel_scope.cancel()


def _network(config: Config, identity: Identity, store: Store) -> AbstractAsyncContextManager[Network]:
    return open_network(
        identity,
        listen=config.texts("network.listen"),
        bootstrap=config.texts("network.bootstrap"),
        rendezvous_lan="lan" in config.texts("network.rendezvous"),
        allow_private_addresses=config.flag("network.allow_private_addresses"),
        limits=limits_from(config.values),
        remembered=store.peers,
        dial_remembered=config.flag("network.remembered"),
    )


def _mode(config: Config) -> Mode:
    return config.text("dht.mode")  # type: ignore[return-value]  # the schema allows these three only


def _dht(
    config: Config, network: Network, store: Store, announcer: Announcer, wall_clock: Clock
) -> AbstractAsyncContextManager[DHT]:
    return open_dht(
        network,
        store,
        networks=config.texts("dht.networks"),
        mode=_mode(config),
        allow_private=config.flag("network.allow_private_addresses"),
        wall_clock=wall_clock,
        announced=announcer.announced,
        reannounced=announcer.reannounced,
        rate=float(config.number("dht.announce_rate")),
        rejoin=config.flag("network.remembered"),
    )


def _meeting(
    config: Config, *, network: Network, dht: DHT, store: Store, wall_clock: Clock, rng: random.Random
) -> Meeting | None:
    """None where the public IPFS DHT is not to be used for it: then nothing is sent there."""
    if "ipfs" not in config.texts("network.rendezvous"):
        return None
    open_public = functools.partial(
        open_dht,
        network,
        store,
        networks=(IPFS,),
        mode="client",
        allow_private=config.flag("network.allow_private_addresses"),
        wall_clock=wall_clock,
        rejoin=config.flag("network.remembered"),
    )
    return Meeting(
        network,
        open_public,
        bootstrap=config.texts("network.ipfs_bootstrap"),
        serves=lambda: dht.status()["mode"] == "server",
        rng=rng,
        note=functools.partial(store.events.append, "node"),
    )


def _exchange(config: Config, network: Network, store: Store, reader: BlockReader) -> ExchangeServer:
    """Serves what is here."""
    limits = Limits(slots=config.number("limits.upload_slots"))
    return ExchangeServer(network, reader, store, limits=limits, upload_rate=config.number("limits.upload"))


async def _keep_schedule(config: Config, exchange: ExchangeServer, parts: FetchParts, wall_clock: Clock) -> None:
    rules = [limit_schedule.parse(rule, parse_size) for rule in config.texts("limits.schedule")]

    def local_time() -> tuple[int, int]:
        now = time.localtime(wall_clock())
        return now.tm_wday, now.tm_hour * 60 + now.tm_min

    await keep_schedule(rules, exchange.upload, parts.download, local_time)


def _fetch_parts(
    config: Config,
    *,
    exchange: ExchangeServer,
    network: Network,
    store: Store,
    reader: BlockReader,
    dht: DHT,
    announcer: Announcer,
    wall_clock: Clock,
    rng: random.Random,
) -> FetchParts:
    """What a fetch needs."""
    return FetchParts(
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


def _register_jobs(jobs: JobManager, node: RunningNode, parts: FetchParts, announcer: Announcer, index: Index) -> None:
    jobs.register(
        "share",
        functools.partial(node.run_share, announcer.provide, announcer.later, index.post),
        limit=SHARES_AT_ONCE,
        discard=functools.partial(publish.discard, parts.store),
    )
    jobs.register(
        "fetch",
        lambda job: fetch.fetch(parts, job.params, job),
        limit=FETCHES_AT_ONCE,
        discard=lambda job: fetch.discard(parts.store, job.id),
    )
    jobs.register("verify", lambda job: fetch.verify(parts, [parts.store.items.get(job.params["item"])], job), limit=1)
