# ruff: noqa: S608 - the pieces of SQL that are put together here are constants of this file
"""What this machine publishes: its signed records, their terms, and at which nodes each term was placed.

It is derived from the items: `unpublished` and `withdrawn` say what a background worker has yet to do, so that a
crash or a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from p2pshare.store.database import Database
from p2pshare.store.text import from_json, plain, to_json
from p2pshare_protocols.item_record import OVERFLOW, Signed
from p2pshare_protocols.postings_room import PER_PUBLISHER, ROOM

_PUBLIC: Final = "removing = 0 AND indexed = 1 AND announce = 1 AND state = 'ok' AND origin = 'shared'"

# Of a posting, `placed`:
WAITING: Final = 0
PLACED: Final = 1
NEVER: Final = 1e18  # unix seconds: when a term that was not placed yet is due for another look
_NEW_TERM: Final = "INSERT OR IGNORE INTO own_terms (term, place, nodes, due) VALUES (?, ?, '[]', ?)"
OVER: Final = 2  # has no room under a term


class Draft(NamedTuple):
    """A record to publish under `terms`: (term, its place in the DHT's key space as 32 bytes)."""

    identity: bytes
    sequence: int
    signed: Signed
    terms: Sequence[tuple[str, bytes]]


class Mine(NamedTuple):
    """One of our records as it stands under a term. `removed`: it is a tombstone."""

    id: int
    identity: bytes
    sequence: int
    removed: bool
    body: bytes
    signature: bytes
    placed: int


class OwnPostings:
    def __init__(self, database: Database) -> None:
        self._db = database

    def unpublished(self, limit: int = 100) -> list[int]:
        """Items that are to be findable by words and have no records yet, the newest first."""
        sql = (
            f"SELECT id FROM items WHERE {_PUBLIC} AND id NOT IN (SELECT item FROM own_items) ORDER BY id DESC LIMIT ?"
        )
        return [row[0] for row in self._db.all(sql, (limit,))]

    def withdrawn(self, limit: int = 100) -> list[int]:
        """Items with records that are no longer shared, or no longer to be found by words."""
        gone = "NOT EXISTS (SELECT 1 FROM items WHERE items.id = own_items.item AND removing = 0 AND indexed = 1)"
        return [row[0] for row in self._db.all(f"SELECT item FROM own_items WHERE {gone} LIMIT ?", (limit,))]

    def add(self, item: int, drafts: Iterable[Draft]) -> None:
        """Records of an item; what has the same identity is replaced. Call `added` when all are in.

        Not synced: what a power cut takes is made again.
        """
        with self._db.relaxed():
            for draft in drafts:
                self._add(item, draft)

    def _add(self, item: int, draft: Draft) -> None:
        number = self._db.first("SELECT id FROM own_records WHERE identity = ?", (draft.identity,))
        if number is not None:
            self._db.execute("DELETE FROM own_postings WHERE record = ?", (number[0],))
            self._db.execute("DELETE FROM own_records WHERE id = ?", (number[0],))
        signed = draft.signed
        cursor = self._db.execute(
            "INSERT INTO own_records (item, identity, sequence, removed, body, signature) VALUES (?, ?, ?, 0, ?, ?)",
            (item, draft.identity, draft.sequence, signed.body, signed.signature),
        )
        for term, place in draft.terms:
            self._db.execute("INSERT INTO own_postings (term, record) VALUES (?, ?)", (plain(term), cursor.lastrowid))
            self._db.execute(_NEW_TERM, (plain(term), place, NEVER))

    def has(self, item: int) -> bool:
        """Whether all records of an item are in."""
        return self._db.first("SELECT 1 FROM own_items WHERE item = ?", (item,)) is not None

    def added(self, item: int, cid: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO own_items VALUES (?, ?)", (item, cid))

    def start_over(self) -> None:
        """Forget all that was signed and where it stands, so that everything is published anew: with another key."""
        with self._db.transaction():
            for table in ("own_items", "own_records", "own_postings", "own_terms", "own_nodes"):
                self._db.execute(f"DELETE FROM {table}")

    def records_of(self, item: int, limit: int) -> list[Mine]:
        """Records of an item that are no tombstones yet."""
        sql = (
            "SELECT id, identity, sequence, removed, body, signature, 0 FROM own_records WHERE item = ? AND removed = 0"
        )
        return [Mine(*row) for row in self._db.all(f"{sql} LIMIT ?", (item, limit))]

    def bury(self, record: int, sequence: int, tombstone: Signed) -> None:
        """A record becomes its tombstone, which is to be told wherever the record was placed."""
        with self._db.transaction():
            self._db.execute(
                "UPDATE own_records SET sequence = ?, removed = 1, body = ?, signature = ? WHERE id = ?",
                (sequence, tombstone.body, tombstone.signature, record),
            )
            self._db.execute("DELETE FROM own_postings WHERE record = ? AND placed = ?", (record, OVER))
            self._db.execute("UPDATE own_postings SET placed = ? WHERE record = ?", (WAITING, record))

    def forget(self, item: int) -> None:
        """The item's withdrawal is written down. Another item with the same content is published anew."""
        with self._db.transaction():
            self._db.execute(
                "DELETE FROM own_items WHERE item <> ?1 AND cid = (SELECT cid FROM own_items WHERE item = ?1)", (item,)
            )
            self._db.execute("DELETE FROM own_items WHERE item = ?", (item,))

    def waiting(self, limit: int) -> list[str]:
        """Terms with something to place, in the order of their keys."""
        sql = (
            "SELECT term FROM own_terms WHERE term IN (SELECT DISTINCT term FROM own_postings WHERE placed = 0 LIMIT ?)"
            " ORDER BY place"
        )
        return [row[0] for row in self._db.all(sql, (limit,))]

    def due(self, now: float, limit: int) -> list[str]:
        """Terms whose place is to be looked up again, in the order of their keys."""
        some = "SELECT term FROM own_terms WHERE due <= ? LIMIT ?"
        sql = f"SELECT term FROM own_terms WHERE term IN ({some}) ORDER BY place"
        return [row[0] for row in self._db.all(sql, (now, limit))]

    def waiting_of(self, item: int, limit: int) -> list[str]:
        """Terms of one item that are not placed yet, in the order of their keys."""
        some = (
            "SELECT p.term FROM own_records r JOIN own_postings p ON p.record = r.id WHERE r.item = ? AND p.placed = 0"
        )
        sql = f"SELECT term FROM own_terms WHERE term IN ({some} LIMIT ?) ORDER BY place"
        return [row[0] for row in self._db.all(sql, (item, limit))]

    def nodes_of(self, term: str) -> tuple[str, ...]:
        row = self._db.first("SELECT nodes FROM own_terms WHERE term = ?", (plain(term),))
        return () if row is None else tuple(from_json(row[0]))

    def under(self, term: str, *, waiting_only: bool) -> list[Mine]:
        """Our records under a term: all tombstones, and as many others as a publisher may have there."""
        columns = "r.id, r.identity, r.sequence, r.removed, r.body, r.signature, p.placed"
        both = "own_postings p JOIN own_records r ON r.id = p.record"
        sql = f"SELECT {columns} FROM {both} WHERE p.term = ? AND p.placed = ?"
        there = self._db.number(
            f"SELECT count(*) FROM {both} WHERE p.term = ? AND p.placed = ? AND r.removed = 0",
            (plain(term), PLACED),
        )
        found = [Mine(*row) for row in self._db.all(f"{sql} LIMIT 1000", (plain(term), WAITING))]
        tombstones = [one for one in found if one.removed]
        fresh = [one for one in found if not one.removed][: max(0, _most(term) - there)]
        if waiting_only:
            return tombstones + fresh
        return tombstones + fresh + [Mine(*row) for row in self._db.all(f"{sql} LIMIT 1000", (plain(term), PLACED))]

    def placed(
        self,
        term: str,
        nodes: Sequence[str],
        due: float,
        done: Sequence[Mine],
        *,
        overflow: tuple[str, bytes] | None = None,
        refused: Collection[int] = (),
    ) -> None:
        """`done` stand at `nodes` now, but for the records `refused`; tombstones among them are over.

        What is more than a publisher may have under the term waits under `overflow` (a term and its place) from now on,
        or no more.
        """
        with self._db.relaxed():
            self._db.execute(
                "UPDATE own_terms SET nodes = ?, due = ? WHERE term = ?", (to_json(list(nodes)), due, plain(term))
            )
            for one in done:
                if one.removed:
                    self._db.execute("DELETE FROM own_postings WHERE term = ? AND record = ?", (plain(term), one.id))
                    self._db.execute(
                        "DELETE FROM own_records WHERE id = ? AND NOT EXISTS"
                        " (SELECT 1 FROM own_postings WHERE record = own_records.id)",
                        (one.id,),
                    )
                elif one.placed == WAITING:
                    sql = "UPDATE own_postings SET placed = ? WHERE term = ? AND record = ?"
                    self._db.execute(sql, (OVER if one.id in refused else PLACED, plain(term), one.id))
            if self._is_full(term):
                if overflow is not None and not term.startswith(OVERFLOW):
                    self._move(term, *overflow)
                self._db.execute(
                    "UPDATE own_postings SET placed = ? WHERE term = ? AND placed = ? AND record IN"
                    " (SELECT id FROM own_records WHERE removed = 0)",
                    (OVER, plain(term), WAITING),
                )
            self._db.execute(
                "DELETE FROM own_terms WHERE term = ? AND NOT EXISTS (SELECT 1 FROM own_postings WHERE term = ?)",
                (plain(term), plain(term)),
            )

    def offer_again(self, term: str, *, everything: bool) -> None:
        """One of the records that had no room under `term`, or all of them, are to be offered once more."""
        some = (
            "" if everything else " AND record = (SELECT min(record) FROM own_postings WHERE term = ?2 AND placed = ?3)"
        )
        with self._db.relaxed():
            sql = f"UPDATE own_postings SET placed = ?1 WHERE term = ?2 AND placed = ?3{some}"
            self._db.execute(sql, (WAITING, plain(term), OVER))

    def said_full(self, limit: int) -> dict[str, set[str]]:
        """Terms, and the nodes that said that their lists of them are full."""
        sql = "SELECT term, full FROM own_terms WHERE full <> '[]' LIMIT ?"
        return {row[0]: set(from_json(row[1])) for row in self._db.all(sql, (limit,))}

    def say_full(self, term: str, nodes: Iterable[str]) -> None:
        """Remember which nodes say that their lists of `term` are full."""
        with self._db.relaxed():
            sql = "UPDATE own_terms SET full = ? WHERE term = ?"
            self._db.execute(sql, (to_json(sorted(nodes)), plain(term)))

    def _is_full(self, term: str) -> bool:
        sql = "SELECT count(*) FROM own_postings WHERE term = ? AND placed = ?"
        return self._db.number(sql, (plain(term), PLACED)) >= _most(term)

    def _move(self, term: str, other: str, place: bytes) -> None:
        """What waits under a term waits under another one."""
        moved = self._db.execute(
            "UPDATE own_postings SET term = ? WHERE term = ? AND placed = ? AND record IN"
            " (SELECT id FROM own_records WHERE removed = 0)",
            (other, plain(term), WAITING),
        ).rowcount
        if moved:
            self._db.execute(_NEW_TERM, (other, place, NEVER))

    def also(self, postings: Iterable[tuple[int, str, bytes]]) -> None:
        """(record, term, its place): records that are to stand under another term too."""
        with self._db.transaction():
            for record, term, place in postings:
                sql = "INSERT OR IGNORE INTO own_postings (term, record) VALUES (?, ?)"
                self._db.execute(sql, (plain(term), record))
                self._db.execute(_NEW_TERM, (plain(term), place, NEVER))

    def placed_of(self, item: int) -> tuple[int, int]:
        """(postings of an item that were placed, postings in all)."""
        row = self._db.first(
            "SELECT sum(p.placed = 1), count(*) FROM own_records r JOIN own_postings p ON p.record = r.id"
            " WHERE r.item = ? AND r.removed = 0",
            (item,),
        )
        return (0, 0) if row is None else (int(row[0] or 0), int(row[1]))

    def at(self, node: str) -> list[tuple[str, int, bytes, int]]:
        """(term, record, identity, sequence) of all that we believe to stand at `node`, for a heartbeat's digest."""
        found = []
        for (term,) in self._db.all("SELECT term FROM own_terms WHERE instr(nodes, ?)", (f'"{plain(node)}"',)):
            found += self._db.all(
                "SELECT p.term, r.id, r.identity, r.sequence FROM own_postings p"
                " JOIN own_records r ON r.id = p.record WHERE p.term = ? AND p.placed = ? AND r.removed = 0",
                (term, PLACED),
            )
        return found

    def record(self, number: int) -> Mine | None:
        """One of our records; None when it is gone."""
        columns = "id, identity, sequence, removed, body, signature, 1"
        row = self._db.first(f"SELECT {columns} FROM own_records WHERE id = ?", (number,))
        return None if row is None else Mine(*row)

    def heard(self, node: str, now: float) -> None:
        """A statement of ours was taken by `node`."""
        with self._db.relaxed():
            self._db.execute("INSERT OR REPLACE INTO own_nodes VALUES (?, ?)", (plain(node), now))

    def silent(self, before: float, limit: int = 100) -> list[str]:
        """Nodes with postings of ours that took no statement since `before`."""
        return [row[0] for row in self._db.all("SELECT node FROM own_nodes WHERE beat < ? LIMIT ?", (before, limit))]

    def drop_node(self, node: str) -> None:
        with self._db.relaxed():
            self._db.execute("DELETE FROM own_nodes WHERE node = ?", (plain(node),))

    def counts(self) -> dict[str, int]:
        """{"records", "terms", "waiting"}."""
        return {
            "records": self._db.number("SELECT count(*) FROM own_records WHERE removed = 0"),
            "terms": self._db.number("SELECT count(*) FROM own_terms"),
            "waiting": self._db.number("SELECT count(*) FROM own_postings WHERE placed = 0"),
        }


def _most(term: str) -> int:
    """Postings that one publisher may have under a term."""
    return ROOM if term.startswith(OVERFLOW) else PER_PUBLISHER
