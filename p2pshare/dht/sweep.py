"""What we provide is provided again before it ends: in key-space order, at a bounded rate, going on after a restart.

When each key was last provided stands with our own records in the store, so a restart repeats nothing. A region with
one key due is provided like a new one; of a region with many, each node gets all its keys on one stream, and a sample
of them is read back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import trio

from p2pshare.dht.addresses import Addresses
from p2pshare.dht.api import DHT, Receipt
from p2pshare.dht.kad import Kad
from p2pshare.dht.records import REPUBLISH, Records
from p2pshare.errors import P2PShareError
from p2pshare_protocols import kad_sweep
from p2pshare_protocols.cid import CID
from p2pshare_protocols.kad_messages import Connection, Kind, Message, Peer

EVERY = 600.0
"""Seconds between looks for what is due, less where nodes live shorter."""
FIRST = 30.0
MESSAGES_A_SECOND = 200.0
"""200,000 items at 22 nodes each in 22 h are 56 a second."""
AT_ONCE = 64
"""Messages in one write. Other traffic gets its turn between two."""
READ_BACK = 3
"""Keys of a region that each node is asked for again."""
STREAMS = 10
BEHIND = 3600.0
"""Seconds that a key may be due before `status` says that announcing falls behind."""


class Sweep:
    def __init__(
        self,
        kads: Sequence[Kad],
        records: Records,
        addresses: Addresses,
        dht: DHT,
        *,
        announced: Callable[[], Iterable[CID]],
        reannounced: Callable[[CID, Receipt], None] | None,
        rate: float,
        rng: random.Random,
    ) -> None:
        self._kads = kads
        self._records = records
        self._addresses = addresses
        self._dht = dht
        self._announced = announced
        self._reannounced = reannounced or (lambda cid, receipt: None)
        self._rate = rate
        self._batch = min(AT_ONCE, max(1, int(rate)))
        self._rng = rng
        self._items = 0
        self._due = 0
        self._oldest = 0.0  # trio clock: since when the oldest is due
        self._next = 0.0  # trio clock: when the next message may be sent

    def status(self) -> dict[str, object]:
        """{"items", "due": waiting to be announced, "oldest": seconds that the oldest of them waits, "rate": messages
        a second at most, "behind": what to do when announcing falls behind, "" when it does not}."""
        late = trio.current_time() - self._oldest if self._due else 0.0
        behind = ""
        if late > BEHIND and any(len(kad.table) for kad in self._kads):
            behind = (
                "announcing falls behind: raise dht.announce_rate; then announce directories instead of each file in"
                " them; then share less, or from a second daemon"
            )
        return {"items": self._items, "due": self._due, "oldest": late, "rate": self._rate, "behind": behind}

    async def run(self) -> None:
        await trio.sleep(FIRST)
        while True:
            await self.once()
            await trio.sleep(min(EVERY, self._every() / 4))

    def _every(self) -> float:
        """Seconds after which a key is due: less than 22 h where the nodes that keep it live shorter."""
        return min([REPUBLISH, *(kad.table.lives.renew_after() for kad in self._kads)])

    async def once(self) -> None:
        """Announce everything that is due now."""
        cids = {cid.multihash: cid for cid in self._announced()}
        due = self._records.due(cids, self._every())
        self._items, self._due = len(cids), len(due)
        self._oldest = trio.current_time() - max(due.values(), default=0.0)
        sizes = [kad.size for kad in self._kads if kad.size is not None]
        for region in kad_sweep.regions(due, kad_sweep.prefix_bits(min(sizes, default=None))):
            if not any(len(kad.table) for kad in self._kads):
                return
            if len(region) == 1:
                receipts = {region[0]: await self._dht.provide(cids[region[0]])}
            else:
                receipts = await self._provide(region)
            self._due -= len(region)
            for key, receipt in receipts.items():
                self._reannounced(cids[key], receipt)

    async def _provide(self, region: Sequence[bytes]) -> dict[bytes, Receipt]:
        """One lookup, then each node's keys on one stream."""
        stored = dict.fromkeys(region, 0.0)
        asked = dict.fromkeys(region, 0)
        for kad in self._kads:
            if not len(kad.table):
                continue
            nodes = await kad.explore(region[0])
            limiter = trio.CapacityLimiter(STREAMS)
            async with trio.open_nursery() as nursery:
                for peer_id, keys in kad.assign(region, nodes).items():
                    for key in keys:
                        asked[key] += 1
                    nursery.start_soon(self._tell, kad, peer_id, keys, stored, limiter)
        for found in (True, False):
            self._records.add_own(
                [key for key in region if (stored[key] > 0) is found],
                self._addresses.own(private=True),
                found=found,
            )
        return {key: Receipt(round(stored[key]), asked[key]) for key in region}

    async def _tell(
        self, kad: Kad, peer_id: str, keys: Sequence[bytes], stored: dict[bytes, float], limiter: trio.CapacityLimiter
    ) -> None:
        private = self._addresses.shares_network(peer_id)
        own = Peer(kad.own_id, self._addresses.own(private=private), Connection.CONNECTED)
        async with limiter:
            try:
                for at in range(0, len(keys), self._batch):
                    batch = keys[at : at + self._batch]
                    await self._pace(len(batch))
                    messages = [Message(Kind.ADD_PROVIDER, key=key, providers=(own,)) for key in batch]
                    await kad.lines.tell_many(peer_id, messages)
                sample = self._rng.sample(keys, min(READ_BACK, len(keys)))
                kept = 0
                for key in sample:
                    answer = await kad.ask(peer_id, Message(Kind.GET_PROVIDERS, key=key))
                    kept += any(peer.peer_id == kad.own_id for peer in answer.providers)
            except P2PShareError:
                return
        for key in keys:
            stored[key] += kept / len(sample)

    async def _pace(self, count: int) -> None:
        now = trio.current_time()
        self._next = max(now, self._next) + count / self._rate
        await trio.sleep_until(self._next - count / self._rate)
