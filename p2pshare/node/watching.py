"""The searches that go on: how each asks, and how the control socket shows it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from p2pshare import search
from p2pshare.index.watch import ROWS, Emit, SomePeers, Watcher, newest_of_peers
from p2pshare.net.api import Network
from p2pshare.node import views
from p2pshare.store import Store
from p2pshare.store.watches import Watch

_TIMEOUT: Final = 10.0  # seconds of one round


def open_watcher(
    store: Store,
    network: Network,
    tiers: Sequence[search.Tier],
    *,
    rng: random.Random,
    wall_clock: Callable[[], float],
) -> Watcher:
    """`run` it."""

    async def ask(params: Mapping[str, Any], emit: Emit, peers: Collection[str] | None) -> None:
        wanted = search.read_query(params["query"], wall_clock(), **params["filters"])
        asked = tiers if peers is None else [SomePeers(network, peers)]
        await search.search(asked, wanted, emit, limit=ROWS, timeout=_TIMEOUT)

    return Watcher(store, ask, newest_of_peers(network, rng), rng=rng, wall_clock=wall_clock)


def shown(watch: Watch) -> dict[str, Any]:
    return {
        "watch": watch.id,
        "query": watch.params["query"],
        "filters": watch.params["filters"],
        "created": views.timestamp(watch.created),
        "asked": views.timestamp(watch.asked or None),
        "found": watch.found,
        "since": watch.since,
    }
