"""Blocks that belong to no item: kept while there is room under the quota, the least lately used dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from p2pshare.store.database import Database

NOBODY: Final = 0  # the owner of blocks that were put without an item: kept until `own`, or until they are dropped
_AT_ONCE: Final = 1000  # blocks dropped in one transaction

Row = tuple[bytes, int, bytes]  # CIDv1 binary, size, data


class Cache:
    """`room()` says how many bytes all of them together may have now, None: as many as there are.

    What was used when is kept in memory; after a restart the older ones count as less lately used.
    """

    def __init__(self, database: Database, wall_clock: Callable[[], float]) -> None:
        self._db = database
        self._now = wall_clock
        self.room: Callable[[], int | None] = lambda: None
        self._used: OrderedDict[bytes, tuple[int, float]] = OrderedDict()  # CID -> size, when it was used
        self.bytes = 0
        self._load()

    def _load(self) -> None:
        """From the catalogue; also after a transaction was undone."""
        sql = "SELECT cid, size FROM item_blocks JOIN blocks ON id = block WHERE item = ? ORDER BY block"
        now = self._now()
        rows = self._db.all(sql, (NOBODY,))
        self._used = OrderedDict((cid, self._used.get(cid, (size, now))) for cid, size in rows)
        self.bytes = sum(size for size, _ in self._used.values())

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Make room for blocks; those that may be kept. Inside the transaction that keeps them."""
        self._db.after_rollback(self._load)
        room = self.room()
        kept: list[Row] = []
        more = 0
        for row in rows:
            cid, size, _ = row
            if cid in self._used:
                self.used(cid)
                kept.append(row)
            elif room is None or more + size <= room:
                more += size
                kept.append(row)
        if room is not None:
            self.shrink(room - more)
        now = self._now()
        for cid, size, _ in kept:
            if cid not in self._used:
                self._used[cid] = (size, now)
                self.bytes += size
        return kept

    def __len__(self) -> int:
        return len(self._used)

    def used(self, cid: bytes) -> None:
        found = self._used.get(cid)
        if found is not None:
            self._used[cid] = (found[0], self._now())
            self._used.move_to_end(cid)

    def forget(self, cids: Iterable[bytes]) -> None:
        """These belong to an item now, or are gone."""
        for cid in cids:
            size, _ = self._used.pop(cid, (0, 0.0))
            self.bytes -= size

    def shrink(self, to: int) -> int:
        """Drop blocks until they have at most `to` bytes; returns how many."""
        dropped = 0
        while self.bytes > max(0, to):
            dropped += self._drop([self._oldest()])
        return dropped

    def drop_unused(self, before: float, limit: int = _AT_ONCE) -> int:
        """Drop up to `limit` blocks that nobody has used since `before`; returns how many."""
        old: list[bytes] = []
        for cid, (_, when) in self._used.items():
            if when >= before or len(old) >= limit:
                break
            old.append(cid)
        return self._drop(old)

    def _oldest(self) -> bytes:
        return next(iter(self._used))

    def _drop(self, cids: Sequence[bytes]) -> int:
        """Those that an item has too only leave the cache."""
        if not cids:
            return 0
        with self._db.transaction():
            self._db.after_rollback(self._load)
            for cid in cids:
                row = self._db.first("SELECT id FROM blocks WHERE cid = ?", (cid,))
                if row is None:
                    continue
                self._db.execute("DELETE FROM item_blocks WHERE item = ? AND block = ?", (NOBODY, *row))
                self._db.execute(
                    "DELETE FROM blocks WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM item_blocks WHERE block = ?1)", row
                )
            self.forget(cids)
        return len(cids)
