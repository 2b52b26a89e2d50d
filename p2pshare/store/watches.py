"""Searches that go on: what is asked, and which results were told already. Bounded in count and in what is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pshare.errors import NotFound, QuotaExceeded
from p2pshare.store.database import Database
from p2pshare.store.text import from_json, to_json

MOST: Final = 32
TOLD: Final = 10_000  # results of one that are remembered: those that were found last
_COLUMNS: Final = "id, params, created, since, asked, found"


@dataclass(frozen=True, slots=True)
class Watch:
    """`params`: the search, as it was asked for. `since`: the number of the last event before it. Unix seconds;
    `asked` is when the whole network was last asked, 0 never. `found`: results told."""

    id: int
    params: dict[str, Any]
    created: float
    since: int
    asked: float
    found: int


class Watches:
    def __init__(self, database: Database, wall_clock: Callable[[], float]) -> None:
        self._db = database
        self._now = wall_clock

    def add(self, params: Mapping[str, Any], *, since: int, known: Iterable[str] = ()) -> tuple[Watch, bool]:
        """A watch and whether it is new: the same search is watched once. `known`: CIDs that are not to be told.

        Raises QuotaExceeded when there are 32.
        """
        text = to_json(dict(sorted(params.items())))
        with self._db.transaction():
            row = self._db.first(f"SELECT {_COLUMNS} FROM watches WHERE params = ?", (text,))  # noqa: S608
            if row is None and len(self.list()) >= MOST:
                raise QuotaExceeded(
                    f"{MOST} searches are watched already", hint="p2pshare watches lists them, remove N ends one."
                )
            if row is None:
                sql = "INSERT INTO watches (params, created, since) VALUES (?, ?, ?)"
                number = int(self._db.execute(sql, (text, self._now(), since)).lastrowid or 0)
            else:
                number = int(row[0])
            self._fresh(number, known)
        return self.get(number), row is None

    def get(self, number: int) -> Watch:
        """Raises NotFound."""
        row = self._db.first(f"SELECT {_COLUMNS} FROM watches WHERE id = ?", (number,))  # noqa: S608
        if row is None:
            raise NotFound(f"there is no watch {number}", hint="p2pshare watches lists them.")
        return Watch(row[0], from_json(row[1]), *row[2:])

    def list(self) -> list[Watch]:
        rows = self._db.all(f"SELECT {_COLUMNS} FROM watches ORDER BY id")  # noqa: S608
        return [Watch(row[0], from_json(row[1]), *row[2:]) for row in rows]

    def remove(self, number: int) -> None:
        """Raises NotFound."""
        self.get(number)
        with self._db.transaction():
            self._db.execute("DELETE FROM watch_told WHERE watch = ?", (number,))
            self._db.execute("DELETE FROM watches WHERE id = ?", (number,))

    def asked(self, number: int, when: float) -> None:
        with self._db.relaxed():
            self._db.execute("UPDATE watches SET asked = ? WHERE id = ?", (when, number))

    def fresh(self, number: int, cids: Iterable[str]) -> set[str]:
        """Which of these were not told before. They count as told from now on."""
        with self._db.transaction():
            found = self._fresh(number, cids)
            self._db.execute("UPDATE watches SET found = found + ? WHERE id = ?", (len(found), number))
        return found

    def _fresh(self, number: int, cids: Iterable[str]) -> set[str]:
        found = set()
        for cid in cids:
            key = hashlib.sha256(cid.encode("utf-8", "surrogateescape")).digest()[:16]
            if self._db.first("SELECT 1 FROM watch_told WHERE watch = ? AND key = ?", (number, key)) is None:
                found.add(cid)
            # Those that are found again stay remembered the longest.
            self._db.execute("INSERT OR REPLACE INTO watch_told (watch, key) VALUES (?, ?)", (number, key))
        last = "SELECT id FROM watch_told WHERE watch = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2"
        self._db.execute(f"DELETE FROM watch_told WHERE watch = ?1 AND id <= ({last})", (number, TOLD))  # noqa: S608
        return found
