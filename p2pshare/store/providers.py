"""Provider records that this node keeps for the DHT: who says to hold what, until when.

All that is bounded is bounded here: records in all, of one key, of one peer, of one subnet, and of one subnet under
one key. Where a bound is reached, a newcomer takes a place only from the subnet that holds the most there, and only if
its own holds less: the newest record of that subnet goes. A stranger with many records can therefore displace only
records as new and as crowded as its own, never an older one of somebody who holds few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from p2pshare.errors import QuotaExceeded
from p2pshare.store.database import Database
from p2pshare.store.peers import MAX_ID, bounded
from p2pshare.store.text import from_json, plain, to_json

MAX_KEY: Final = 256
OWN: Final = "own"
"""The subnet of this node's own records: bounded by the total only, never displaced."""
PRIVATE: Final = "private"
"""The subnet of all peers on private networks where these are allowed: not bounded as a subnet."""
_UNBOUNDED: Final = (OWN, PRIVATE)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Records, except `peers`."""

    total: int = 1_000_000
    peers: int = 200_000
    key: int = 1000
    key_subnet: int = 100
    peer: int = 50_000
    subnet: int = 100_000
    subnet_peers: int = 2_000


def _place(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big", signed=True)


class Providers:
    """Not synced by itself: publishers renew their records. Keeps two numbers in memory."""

    def __init__(self, database: Database, *, most: int | None = None, bounds: Bounds | None = None) -> None:
        self._db = database
        self.bounds = bounds or (Bounds() if most is None else Bounds(total=most))
        self._count: int | None = None
        self._peers: int | None = None

    def put(self, key: bytes, peer_id: str, addresses: Sequence[str], expires: float, *, subnet: str = OWN) -> None:
        """Keep or renew a record. `subnet` is where the peer was seen, an IPv4 /24 or IPv6 /56 as text.

        Raises QuotaExceeded when a bound leaves no place for it.
        """
        if len(key) > MAX_KEY or not 0 < len(peer_id) <= MAX_ID:
            return
        try:
            self._put(key, peer_id, addresses, expires, subnet)
        except BaseException:
            self._count = self._peers = None  # what was done is undone
            raise

    def _put(self, key: bytes, peer_id: str, addresses: Sequence[str], expires: float, subnet: str) -> None:
        with self._db.relaxed():
            peer = self._peer(peer_id, addresses, subnet)
            sql = "UPDATE providers SET expires = ? WHERE place = ? AND peer = ? AND key = ?"
            if self._db.execute(sql, (int(expires), _place(key), peer, key)).rowcount:
                return
            if subnet != OWN:
                self._make_room_under(key, subnet)
            self._make_room(peer, subnet)
            self._db.execute(
                "INSERT INTO providers (place, key, peer, expires) VALUES (?, ?, ?, ?)",
                (_place(key), key, peer, int(expires)),
            )
            self._changed(peer, 1)
        self._count = None if self._count is None else self._count + 1

    def _peer(self, peer_id: str, addresses: Sequence[str], subnet: str) -> int:
        """The number of a peer; what it says of its addresses now counts for all of its records."""
        name, said = plain(peer_id), to_json(bounded(addresses))
        row = self._db.first("SELECT id, addresses FROM provider_peers WHERE peer = ?", (name,))
        if row is not None:
            if row[1] != said:
                self._db.execute("UPDATE provider_peers SET addresses = ? WHERE id = ?", (said, row[0]))
            return int(row[0])
        held = self._db.number("SELECT peers FROM provider_subnets WHERE subnet = ?", (subnet,))
        if self._peers is None:
            self._peers = self._db.number("SELECT count(*) FROM provider_peers")
        if subnet not in _UNBOUNDED and (self._peers >= self.bounds.peers or held >= self.bounds.subnet_peers):
            raise QuotaExceeded("too many peers provide something")
        self._db.execute("INSERT OR IGNORE INTO provider_subnets (subnet) VALUES (?)", (subnet,))
        self._db.execute("UPDATE provider_subnets SET peers = peers + 1 WHERE subnet = ?", (subnet,))
        self._peers += 1
        sql = "INSERT INTO provider_peers (peer, addresses, subnet) VALUES (?, ?, ?)"
        return int(self._db.execute(sql, (name, said, subnet)).lastrowid or 0)

    def _make_room_under(self, key: bytes, subnet: str) -> None:
        """In a key that is full the subnet with the most records gives its newest, if the newcomer's has fewer."""
        if self.count(key=key) < min(self.bounds.key, self.bounds.key_subnet):
            return
        counts: dict[str, int] = {}
        newest: dict[str, int] = {}
        rows = self._db.all(
            "SELECT p.id, q.subnet FROM providers p JOIN provider_peers q ON q.id = p.peer"
            " WHERE p.place = ? AND p.key = ? ORDER BY p.id",
            (_place(key), key),
        )
        for number, group in rows:
            counts[group] = counts.get(group, 0) + 1
            newest[group] = number
        if subnet != PRIVATE and counts.get(subnet, 0) >= self.bounds.key_subnet:
            raise QuotaExceeded("too many records of one subnet under one key")
        if len(rows) >= self.bounds.key:
            counts.pop(OWN, None)
            largest = max(counts, key=lambda group: (counts[group], newest[group]), default=subnet)
            if counts.get(largest, 0) <= counts.get(subnet, 0) + 1:
                raise QuotaExceeded("too many records under one key")
            self._drop(newest[largest])

    def _make_room(self, peer: int, subnet: str) -> None:
        bounds = self.bounds
        records = self._db.number("SELECT records FROM provider_peers WHERE id = ?", (peer,))
        if subnet != OWN and records >= bounds.peer:
            raise QuotaExceeded("too many records of one peer")
        held = self._db.number("SELECT records FROM provider_subnets WHERE subnet = ?", (subnet,))
        if subnet not in _UNBOUNDED and held >= bounds.subnet:
            raise QuotaExceeded("too many records of one subnet")
        if self.count() < bounds.total:
            return
        largest = self._db.first(
            "SELECT subnet, records FROM provider_subnets WHERE subnet != ? ORDER BY records DESC LIMIT 1", (OWN,)
        )
        if largest is None or largest[1] <= held + 1:
            raise QuotaExceeded("the store of provider records is full")
        newest = self._db.number(
            "SELECT max((SELECT max(id) FROM providers WHERE peer = q.id)) FROM provider_peers q WHERE q.subnet = ?",
            (largest[0],),
        )
        self._drop(newest)

    def _drop(self, number: int) -> None:
        peer = self._db.number("SELECT peer FROM providers WHERE id = ?", (number,))
        self._db.execute("DELETE FROM providers WHERE id = ?", (number,))
        self._changed(peer, -1)
        self._count = None if self._count is None else self._count - 1

    def _changed(self, peer: int, by: int) -> None:
        """Keep the sums right; a peer without records goes."""
        self._db.execute("UPDATE provider_peers SET records = records + ? WHERE id = ?", (by, peer))
        self._db.execute(
            "UPDATE provider_subnets SET records = records + ?"
            " WHERE subnet = (SELECT subnet FROM provider_peers WHERE id = ?)",
            (by, peer),
        )
        if by < 0:
            row = self._db.first("SELECT subnet FROM provider_peers WHERE id = ? AND records <= 0", (peer,))
            if row is not None:
                self._peers = None if self._peers is None else self._peers - 1
                self._db.execute("DELETE FROM provider_peers WHERE id = ?", (peer,))
                self._db.execute("UPDATE provider_subnets SET peers = peers - 1 WHERE subnet = ?", row)
                self._db.execute("DELETE FROM provider_subnets WHERE subnet = ? AND peers <= 0", row)

    def get(self, key: bytes, now: float, limit: int = 20) -> list[tuple[str, list[str], float]]:
        """(peer ID, addresses, expiry) of records not expired at `now`, those that last longest first."""
        rows = self._db.all(
            "SELECT q.peer, q.addresses, p.expires FROM providers p JOIN provider_peers q ON q.id = p.peer"
            " WHERE p.place = ? AND p.key = ? AND p.expires > ? ORDER BY p.expires DESC LIMIT ?",
            (_place(key), key, now, limit),
        )
        return [(peer, from_json(addresses), float(expires)) for peer, addresses, expires in rows]

    def sample(self, key: bytes, now: float, limit: int, seed: int) -> list[tuple[str, list[str]]]:
        """Up to `limit` live records, another choice for another `seed`, so that nobody is crowded out for ever."""
        rows = self._db.all(
            "SELECT q.peer, q.addresses FROM providers p JOIN provider_peers q ON q.id = p.peer"
            " WHERE p.place = ? AND p.key = ? AND p.expires > ? ORDER BY (p.id % 1048573 + 1) * ? % 4294967291 LIMIT ?",
            (_place(key), key, now, seed & 0xFFFFFFFF | 1, limit),
        )
        return [(peer, from_json(addresses)) for peer, addresses in rows]

    def one(self, key: bytes, peer_id: str, now: float) -> tuple[list[str], float] | None:
        """(addresses, expiry) of one peer's record, or None when it has none that lives."""
        row = self._db.first(
            "SELECT q.addresses, p.expires FROM provider_peers q JOIN providers p ON p.peer = q.id AND p.place = ?"
            " WHERE q.peer = ? AND p.key = ? AND p.expires > ?",
            (_place(key), plain(peer_id), key, now),
        )
        return None if row is None else (from_json(row[0]), float(row[1]))

    def expiries(self, peer_id: str) -> dict[bytes, float]:
        """When each record of one peer ends."""
        rows = self._db.all(
            "SELECT key, expires FROM providers WHERE peer = (SELECT id FROM provider_peers WHERE peer = ?)",
            (plain(peer_id),),
        )
        return {key: float(expires) for key, expires in rows}

    def put_own(self, keys: Sequence[bytes], peer_id: str, addresses: Sequence[str], expires: float) -> None:
        """Many of this node's own records in one transaction. Raises QuotaExceeded."""
        with self._db.relaxed():
            for key in keys:
                self.put(key, peer_id, addresses, expires)

    def together(self) -> AbstractContextManager[None]:
        """What is done in it is one transaction."""
        return self._db.relaxed()

    def remove(self, key: bytes, peer_id: str) -> None:
        with self._db.relaxed():
            row = self._db.first(
                "SELECT p.id FROM provider_peers q JOIN providers p ON p.peer = q.id AND p.place = ?"
                " WHERE q.peer = ? AND p.key = ?",
                (_place(key), plain(peer_id), key),
            )
            if row is not None:
                self._drop(int(row[0]))

    def expire(self, now: float, limit: int = 2_000) -> int:
        """Drop up to `limit` records that expired; returns how many."""
        with self._db.relaxed():
            gone = self._db.all("SELECT id FROM providers WHERE expires <= ? LIMIT ?", (now, limit))
            for (number,) in gone:
                self._drop(number)
        self._count = None
        return len(gone)

    def count(self, *, key: bytes | None = None, peer_id: str | None = None) -> int:
        """Records in all (remembered), of one key, or of one peer."""
        if key is not None:
            return self._db.number("SELECT count(*) FROM providers WHERE place = ? AND key = ?", (_place(key), key))
        if peer_id is not None:
            return self._db.number("SELECT records FROM provider_peers WHERE peer = ?", (plain(peer_id),))
        if self._count is None:
            self._count = self._db.number("SELECT sum(records) FROM provider_subnets")
        return self._count
