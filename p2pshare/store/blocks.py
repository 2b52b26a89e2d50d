"""Blocks that are kept as bytes: small DAG nodes, and copied content. A block stays while an item owns it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from p2pshare.store.cache import NOBODY, Cache
from p2pshare.store.database import Database
from p2pshare.store.model import BlockStats
from p2pshare.store.references import References


class Blocks:
    """Keyed by CIDv1 binary. Nothing is verified here: callers put and read what they checked."""

    def __init__(self, database: Database, references: References, cache: Cache | None = None) -> None:
        self._db = database
        self._references = references
        self._cache = cache

    def put_many(self, item_id: int | None, blocks: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep (cid, data) blocks for an item, durable on return. None: for nobody, as far as the cache has room."""
        rows = [(cid, len(data), data) for cid, data in blocks]
        with self._db.transaction():
            if item_id is None and self._cache is not None:
                rows = self._cache.admit(rows)
            self._db.executemany("INSERT OR IGNORE INTO blocks (cid, size, data) VALUES (?, ?, ?)", rows)
            self._add_owner(NOBODY if item_id is None else item_id, (row[0] for row in rows))

    def own(self, item_id: int, cids: Iterable[bytes]) -> None:
        """Let an item own blocks that are here already; those that are not here are passed over."""
        keys = list(cids)
        with self._db.transaction():
            self._add_owner(item_id, keys)
            if item_id != NOBODY:
                if self._cache is not None:
                    self._cache.forget(keys)
                self._db.executemany(
                    "DELETE FROM item_blocks WHERE item = 0 AND block = (SELECT id FROM blocks WHERE cid = ?)",
                    [(key,) for key in keys],
                )

    def _add_owner(self, owner: int, cids: Iterable[bytes]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO item_blocks SELECT ?, id FROM blocks WHERE cid = ?",
            [(owner, cid) for cid in cids],
        )

    def adopt(self, old: int, new: int) -> None:
        """Give all blocks of one owner to another."""
        with self._db.transaction():
            self._db.execute("UPDATE OR IGNORE item_blocks SET item = ? WHERE item = ?", (new, old))
            self._db.execute("DELETE FROM item_blocks WHERE item = ?", (old,))

    def get(self, cid: bytes) -> bytes | None:
        if self._cache is not None:
            self._cache.used(cid)
        row = self._db.first("SELECT data FROM blocks WHERE cid = ?", (cid,))
        return None if row is None else bytes(row[0])

    def size(self, cid: bytes) -> int | None:
        row = self._db.first("SELECT size FROM blocks WHERE cid = ?", (cid,))
        return None if row is None else int(row[0])

    def has(self, cid: bytes) -> bool:
        """Whether the block is here, as bytes or as a reference into a file."""
        if self._db.first("SELECT 1 FROM blocks WHERE cid = ?", (cid,)) is not None:
            return True
        return self._references.has(cid)

    def cids_of(self, item_id: int) -> list[bytes]:
        """The CIDs (binary) of the blocks that an item owns, in the order in which they came."""
        sql = "SELECT b.cid FROM item_blocks o JOIN blocks b ON b.id = o.block WHERE o.item = ? ORDER BY o.block"
        return [row[0] for row in self._db.all(sql, (item_id,))]

    def remove(self, cids: Iterable[bytes]) -> None:
        """Drop blocks, whoever owns them: for bytes that turned out to be damaged."""
        with self._db.transaction():
            for cid in cids:
                if self._cache is not None:
                    self._cache.forget([cid])
                self._db.execute("DELETE FROM item_blocks WHERE block = (SELECT id FROM blocks WHERE cid = ?)", (cid,))
                self._db.execute("DELETE FROM blocks WHERE cid = ?", (cid,))

    def sweep(self, limit: int = 1000) -> int:
        """Drop up to `limit` blocks that belong to nobody; returns how many. For `storage gc`."""
        return self._cache.drop_unused(math.inf, limit) if self._cache is not None else self.release(NOBODY, limit)

    def release(self, item_id: int, limit: int) -> int:
        """Take up to `limit` blocks away from an item; those without another owner are deleted. 0: none left."""
        with self._db.transaction():
            rows = self._db.all("SELECT block FROM item_blocks WHERE item = ? LIMIT ?", (item_id, limit))
            for row in rows:
                self._db.execute("DELETE FROM item_blocks WHERE item = ? AND block = ?", (item_id, *row))
                self._db.execute(
                    "DELETE FROM blocks WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM item_blocks WHERE block = ?1)",
                    row,
                )
        return len(rows)

    def stats(self) -> BlockStats:
        row = self._db.first("SELECT count(*), coalesce(sum(size), 0) FROM blocks") or (0, 0)
        return BlockStats(row[0], row[1], self._db.number("SELECT count(*) FROM chunks"))
