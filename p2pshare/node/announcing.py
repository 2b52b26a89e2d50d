"""Telling the DHT what this machine has, at once for what is new, and noting in the catalogue how it went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import trio

from p2pshare.dht import DHT, Receipt
from p2pshare.errors import P2PShareError
from p2pshare.store import Item, Store
from p2pshare_protocols.cid import CID

_log = logging.getLogger(__name__)


class Announcer:
    """Stands between items and the DHT, which is opened with `announced` and `reannounced`, then attached."""

    def __init__(self, store: Store, wall_clock: Callable[[], float]) -> None:
        self._store = store
        self._now = wall_clock
        self._dht: DHT | None = None
        self._nursery: trio.Nursery | None = None

    def attach(self, dht: DHT, nursery: trio.Nursery) -> None:
        self._dht, self._nursery = dht, nursery

    def announced(self) -> Iterable[CID]:
        """The roots that are to stay findable."""
        return [item.cid for item in self._store.items.list() if item.announce and item.state == "ok"]

    def reannounced(self, cid: CID, receipt: Receipt) -> None:
        """What became of one of them."""
        with self._store.transaction():
            for item in self._store.items.all_by_cid(cid):
                self._store.items.set_announced(item.id, self._now(), receipt.stored, receipt.asked)

    async def provide(self, cid: CID) -> Receipt:
        assert self._dht is not None
        return await self._dht.provide(cid)

    async def soon(self, item: Item) -> None:
        """Announce a fetched item without keeping its fetch waiting."""
        if self._nursery is not None and item.announce:
            self._nursery.start_soon(self._announce, item.cid)

    async def later(self, cid: CID) -> Receipt:
        """Announce in the background; the receipt says that nobody was asked yet."""
        if self._nursery is not None:
            self._nursery.start_soon(self._announce, cid)
        return Receipt(0, 0)

    async def _announce(self, cid: CID) -> None:
        try:
            self.reannounced(cid, await self.provide(cid))
        except P2PShareError as error:
            _log.warning("%s could not be announced yet: %s", cid, error)
