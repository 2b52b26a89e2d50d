"""Values that this node keeps for the DHT: public keys and IPNS records, few and small, the validity checked above."""

from __future__ import annotations

from typing import Final

from p2pshare.store.database import Database

MAX_VALUES: Final = 4096
PER_SUBNET: Final = 256
MAX_VALUE: Final = 10 * 1024
MAX_KEY: Final = 256


class Values:
    """At most 4096 values of 10 KiB. When full, the newest of the subnet that has the most makes room for others."""

    def __init__(self, database: Database, *, most: int = MAX_VALUES) -> None:
        self._db = database
        self._most = most

    def put(self, key: bytes, value: bytes, expires: float, *, subnet: str) -> bool:
        """Keep or replace. False when there is no room for it."""
        if len(key) > MAX_KEY or len(value) > MAX_VALUE:
            return False
        with self._db.relaxed():
            sql = "UPDATE dht_values SET value = ?, expires = ? WHERE key = ?"
            if self._db.execute(sql, (value, int(expires), key)).rowcount:
                return True
            held = self._db.number("SELECT count(*) FROM dht_values WHERE subnet = ?", (subnet,))
            if held >= min(PER_SUBNET, self._most):
                return False
            if self.count() >= self._most and not self._make_room(held):
                return False
            self._db.execute(
                "INSERT INTO dht_values (key, value, subnet, expires) VALUES (?, ?, ?, ?)",
                (key, value, subnet, int(expires)),
            )
        return True

    def _make_room(self, held: int) -> bool:
        crowd = self._db.first(
            "SELECT max(id), count(*) AS size FROM dht_values GROUP BY subnet ORDER BY size DESC LIMIT 1"
        )
        if crowd is None or crowd[1] <= held + 1:
            return False
        self._db.execute("DELETE FROM dht_values WHERE id = ?", (crowd[0],))
        return True

    def get(self, key: bytes, now: float) -> bytes | None:
        row = self._db.first("SELECT value FROM dht_values WHERE key = ? AND expires > ?", (key, now))
        return None if row is None else bytes(row[0])

    def expire(self, now: float) -> None:
        with self._db.relaxed():
            self._db.execute("DELETE FROM dht_values WHERE expires <= ?", (now,))

    def count(self) -> int:
        return self._db.number("SELECT count(*) FROM dht_values")
