"""Numbered events: what changed is kept, what merely moves is passed on.

`append` writes a durable row, inside the transaction that is open or in one of its own; listeners hear of it after
the commit. `transient` (progress, several a second) touches no disk: it takes the next number of the same counter
and goes to listeners only. Numbers for transient events are reserved in ranges of 10,000, written once a range, so
that after a crash the counter starts behind every number that anybody may have seen.
"""

# ruff: noqa: S608 - the pieces of SQL that are put together here are constants of this file

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from p2pshare.store.database import Database
from p2pshare.store.model import Event
from p2pshare.store.text import from_json, to_json

KEPT: Final = 100_000
TOPICS: Final = ("jobs", "shares", "peers", "node", "search")
_RESERVED: Final = 10_000
_PRUNE_EVERY: Final = 1_000

Listener = Callable[[Event], None]


class Events:
    def __init__(self, database: Database, wall_clock: Callable[[], float], *, kept: int = KEPT) -> None:
        self._db = database
        self._now = wall_clock
        self._kept = kept
        self._listeners: list[Listener] = []
        self._appended = 0
        self._reserved = self._reservation()
        newest = database.number("SELECT max(seq) FROM events")
        self._last = max(newest, self._reserved)

    def _reservation(self) -> int:
        row = self._db.first("SELECT value FROM meta WHERE key = 'events.reserved'")
        return int(row[0]) if row else 0

    @property
    def last_seq(self) -> int:
        """The highest number given out."""
        return self._last

    def append(self, topic: str, body: Mapping[str, Any]) -> Event:
        """A durable event. Listeners hear it when the transaction that it belongs to is durable."""
        with self._db.transaction():
            self._last += 1
            event = Event(self._last, self._now(), topic, dict(body))
            self._db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?)", (event.seq, event.time, topic, to_json(event.body))
            )
            self._appended += 1
            if self._appended % min(_PRUNE_EVERY, self._kept) == 0:
                self._prune()
            self._db.after_commit(lambda: self._tell(event))
        return event

    def transient(self, topic: str, body: Mapping[str, Any]) -> Event:
        """An event for listeners only: not kept, not synced, told at once."""
        self._last += 1
        if self._last > self._reserved:
            self._reserve()
        event = Event(self._last, self._now(), topic, dict(body), durable=False)
        self._tell(event)
        return event

    def _reserve(self) -> None:
        reserved = self._last + _RESERVED
        with self._db.transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('events.reserved', ?)", (str(reserved),))
            self._reserved = reserved
            self._db.after_rollback(self._reload)

    def _reload(self) -> None:
        self._reserved = self._reservation()

    def _prune(self) -> None:
        row = self._db.first("SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?", (self._kept,))
        if row is not None:
            self._db.execute("DELETE FROM events WHERE seq <= ?", row)

    def since(self, seq: int, topics: Collection[str] | None = None, limit: int = 1000) -> list[Event]:
        """Durable events with a higher number, oldest first; `topics` None or empty means all."""
        wanted = f"AND topic IN ({','.join('?' * len(topics))})" if topics else ""
        rows = self._db.all(
            f"SELECT seq, time, topic, body FROM events WHERE seq > ? {wanted} ORDER BY seq LIMIT ?",
            (seq, *(topics or ()), limit),
        )
        return [Event(row[0], row[1], row[2], from_json(row[3])) for row in rows]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every event from now on. It must be quick and must not raise. Returns how to stop."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            listener(event)
