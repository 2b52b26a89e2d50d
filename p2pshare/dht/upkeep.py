"""What the DHT does on its own: greets peers, looks around, forgets what expired, repeats what we provide."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from p2pshare.dht.kad import Kad
from p2pshare.dht.records import Records
from p2pshare.dht.sweep import Sweep
from p2pshare.net.api import Network
from p2pshare.store import Store

REFRESH_EVERY = 60.0
EXPIRE_EVERY = 600.0
SAVE_EVERY = 600.0
LINES_EVERY = 15.0
JOIN_PAUSE, MOST_PAUSE = 5.0, 60.0
"""Seconds at least between two lookups of ourselves while peers enter near us; doubled each time, up to the second."""


class Upkeep:
    def __init__(
        self,
        net: Network,
        store: Store,
        kads: Sequence[Kad],
        records: Records,
        sweep: Sweep | None,
        *,
        rejoin: bool = True,
    ) -> None:
        self._net = net
        self._store = store
        self._kads = kads
        self._records = records
        self._sweep = sweep
        self._rejoin = rejoin

    async def start(self, nursery: trio.Nursery) -> None:
        """Returns when peers' coming is watched; everything goes on in `nursery`."""
        watching = trio.Event()
        nursery.start_soon(self._watch_peers, nursery, watching)
        await watching.wait()
        for kad in self._kads:
            if self._rejoin:
                nursery.start_soon(kad.rejoin, self._store.get_meta(self._meta(kad)))
            nursery.start_soon(self._join, kad)
            nursery.start_soon(self._refresh, kad)
            nursery.start_soon(self._close_idle_lines, kad)
        nursery.start_soon(self._expire)
        nursery.start_soon(self._save_now_and_then)
        if self._sweep is not None:
            nursery.start_soon(self._sweep.run)

    async def _watch_peers(self, nursery: trio.Nursery, watching: trio.Event) -> None:
        with self._net.events() as events:
            watching.set()
            for peer in self._net.peers():
                self._greet(nursery, peer.peer_id)
            async for event in events:
                if event.what == "identified":
                    self._greet(nursery, event.peer_id)

    def _greet(self, nursery: trio.Nursery, peer_id: str) -> None:
        spoken = self._net.protocols_of(peer_id)
        for kad in self._kads:
            if kad.protocol in spoken:
                nursery.start_soon(kad.greet, peer_id)
            elif spoken:
                kad.table.remove(peer_id)  # it is a client now

    async def _join(self, kad: Kad) -> None:
        """Whenever somebody new entered the table near us, look for our own surroundings, ever less often."""
        pause = JOIN_PAUSE
        while True:
            await kad.joined.wait()
            kad.joined = trio.Event()
            await kad.find_self()
            await trio.sleep(pause)
            pause = min(MOST_PAUSE, 2 * pause)

    async def _refresh(self, kad: Kad) -> None:
        while True:
            await trio.sleep(REFRESH_EVERY)
            if len(kad.table):
                await kad.refresh()

    async def _close_idle_lines(self, kad: Kad) -> None:
        while True:
            await trio.sleep(LINES_EVERY)
            await kad.lines.close_idle()

    async def _expire(self) -> None:
        while True:
            self._records.expire()
            await trio.sleep(EXPIRE_EVERY)

    async def _save_now_and_then(self) -> None:
        while True:
            await trio.sleep(SAVE_EVERY)
            self.save()

    def save(self) -> None:
        """The tables, so that the next start finds the network without asking anybody else."""
        for kad in self._kads:
            if len(kad.table):
                self._store.set_meta(self._meta(kad), kad.save())

    @staticmethod
    def _meta(kad: Kad) -> str:
        return f"dht.table{kad.protocol}"
