"""Provider records that this node keeps for the DHT: who says to hold what, until when.

How many a key, a peer or a subnet may have is the DHT's rule; the figures for it are here, and a bound on all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from p2pshare.errors import QuotaExceeded
from p2pshare.store.database import Database
from p2pshare.store.peers import MAX_ID, bounded
from p2pshare.store.text import from_json, plain, to_json

MAX_RECORDS: Final = 2_000_000
MAX_KEY: Final = 256


class Providers:
    """Not synced by itself: publishers renew their records."""

    def __init__(self, database: Database, *, most: int = MAX_RECORDS) -> None:
        self._db = database
        self._most = most
        self._count: int | None = None

    def put(self, key: bytes, peer_id: str, addresses: Sequence[str], expires: float) -> None:
        """Keep or renew a record. Raises QuotaExceeded when the store is full (after `expire`)."""
        if len(key) > MAX_KEY or not 0 < len(peer_id) <= MAX_ID:
            return
        with self._db.relaxed():
            values = (to_json(bounded(addresses)), expires, key, plain(peer_id))
            sql = "UPDATE providers SET addresses = ?, expires = ? WHERE key = ? AND peer = ?"
            if self._db.execute(sql, values).rowcount:
                return
            if self.count() >= self._most:
                raise QuotaExceeded("the store of provider records is full")
            self._db.execute("INSERT INTO providers (addresses, expires, key, peer) VALUES (?, ?, ?, ?)", values)
        self._count = self.count() + 1

    def get(self, key: bytes, now: float, limit: int = 20) -> list[tuple[str, list[str], float]]:
        """(peer ID, addresses, expiry) of records not expired at `now`, those that last longest first."""
        rows = self._db.all(
            "SELECT peer, addresses, expires FROM providers WHERE key = ? AND expires > ?"
            " ORDER BY expires DESC LIMIT ?",
            (key, now, limit),
        )
        return [(peer, from_json(addresses), expires) for peer, addresses, expires in rows]

    def remove(self, key: bytes, peer_id: str) -> None:
        with self._db.relaxed():
            self._db.execute("DELETE FROM providers WHERE key = ? AND peer = ?", (key, plain(peer_id)))
        self._count = None

    def expire(self, now: float, limit: int = 10_000) -> int:
        """Drop up to `limit` records that expired; returns how many."""
        with self._db.relaxed():
            gone = self._db.execute(
                "DELETE FROM providers WHERE (key, peer) IN"
                " (SELECT key, peer FROM providers WHERE expires <= ? LIMIT ?)",
                (now, limit),
            ).rowcount
        self._count = None
        return gone

    def count(self, *, key: bytes | None = None, peer_id: str | None = None) -> int:
        """Records in all (remembered), of one key, or of one peer."""
        if key is not None:
            return self._db.number("SELECT count(*) FROM providers WHERE key = ?", (key,))
        if peer_id is not None:
            return self._db.number("SELECT count(*) FROM providers WHERE peer = ?", (plain(peer_id),))
        if self._count is None:
            self._count = self._db.number("SELECT count(*) FROM providers")
        return self._count
