# ruff: noqa: S608 - the pieces of SQL that are put together here are constants of this file
"""Postings that this node keeps for others: who placed them, under which terms, within the room of each.

The rules are protocols/index.md, "Room"; who may have how much is told by `postings_room`, the rows are here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from p2pshare.store.database import Database
from p2pshare.store.text import plain
from p2pshare_protocols.index_postings import MAX_FULL
from p2pshare_protocols.item_record import OVERFLOW, ItemRecord, Signed
from p2pshare_protocols.postings_ask import Named
from p2pshare_protocols.postings_room import PER_NET, ROOM, Origin, TermRoom

HIDDEN: Final = 48 * 3600.0  # seconds after which a publisher that was not heard of is not shown
DELETED: Final = 14 * 24 * 3600.0
MAX_POSTINGS: Final = 2_000_000  # of all, about 600 MB
MAX_OWNERS: Final = 100_000
PROVEN_FOR: Final = 7 * 24 * 3600.0  # seconds until a record that was proven may be asked for again
_CACHED_ROOMS: Final = 2000  # terms
_CACHED_ORIGINS: Final = 100_000  # of all cached rooms, 300 bytes each
_REMOVED_AT_ONCE: Final = 2000


class Kept(NamedTuple):
    """A record that is found. `proven`: when its sender was last seen to hold a part of it, unix seconds; 0 never."""

    signed: Signed
    proven: int = 0


class Doubtful(NamedTuple):
    """A record whose sender is to be asked for a part of it."""

    id: int
    owner: int
    sender: str
    body: bytes


class Owner(NamedTuple):
    """A publisher as one node speaks for it. `stated`: the time of its last statement, unix seconds."""

    id: int
    origin: Origin
    stated: int


class Postings:
    """For the trio thread; statements are short. Not synced by itself: publishers send again what is lost."""

    def __init__(self, database: Database, *, room: int = ROOM, most: int = MAX_POSTINGS) -> None:
        self._db = database
        self._room = room
        self._most = most
        self._rooms: OrderedDict[str, TermRoom] = OrderedDict()
        self._origins = 0
        self._count: int | None = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction; when it is undone, what was counted in memory is forgotten."""
        try:
            with self._db.relaxed():
                yield
        except BaseException:
            self._rooms.clear()
            self._origins = 0
            self._count = None
            raise

    def owner(self, origin: Origin, sender: str) -> Owner | None:
        row = self._db.first(
            "SELECT id, large, stated FROM posting_owners WHERE publisher = ? AND sender = ? AND small = ?",
            (origin.publisher, plain(sender), origin.small),
        )
        return None if row is None else Owner(row[0], origin._replace(large=row[1]), row[2])

    def heard(self, origin: Origin, sender: str, stated: int, now: float) -> Owner | None:
        """Note that a publisher lives (its statement was checked). None when there is no room for another one."""
        known = self.owner(origin, sender)
        with self._db.relaxed():
            if known is not None:
                sql = "UPDATE posting_owners SET seen = ?, stated = ? WHERE id = ?"
                self._db.execute(sql, (now, stated, known.id))
                return known._replace(stated=stated)
            if self._db.number("SELECT count(*) FROM posting_owners") >= MAX_OWNERS:
                return None
            self._db.execute(
                "INSERT INTO posting_owners (publisher, sender, small, large, seen, stated, since)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5)",
                (origin.publisher, plain(sender), origin.small, origin.large, now, stated),
            )
        return self.owner(origin, sender)

    def sequence(self, publisher: bytes, identity: bytes) -> int:
        """Of what is known of a thing, a tombstone too; -1 when nothing is."""
        sql = "SELECT sequence FROM posting_records WHERE publisher = ? AND identity = ?"
        row = self._db.first(sql, (publisher, identity))
        return -1 if row is None else int(row[0])

    def put(self, owner: Owner, signed: Signed, record: ItemRecord, terms: Sequence[str]) -> int:
        """As `put_under`; how many of the terms the record stands under now."""
        return len(self.put_under(owner, signed, record, terms))

    def put_under(self, owner: Owner, signed: Signed, record: ItemRecord, terms: Sequence[str]) -> list[str]:
        """Keep a record under `terms`, as far as there is room; those under which it stands now.

        The same record again adds terms; a newer sequence replaces it; an older one is refused.
        """
        known = self.sequence(owner.origin.publisher, record.identity)
        if known > record.sequence:
            return []
        with self._writing():
            if 0 <= known < record.sequence:
                self._empty(owner.origin.publisher, record.identity)
            number = self._record(owner, signed, record, same=known == record.sequence)
            if number is None:
                return []
            kept = [term for term in terms if self._place(term, number, owner)]
            self._drop_if_empty(number)
        return kept

    def _record(self, owner: Owner, signed: Signed, record: ItemRecord, *, same: bool) -> int | None:
        """The record's number; None when a tombstone of the same sequence stands in its place."""
        key = (owner.origin.publisher, record.identity)
        if same:
            sql = "SELECT id, owner, length(words) FROM posting_records WHERE publisher = ? AND identity = ?"
            number, holder, words = self._db.all(sql, key)[0]
            if words and holder != owner.id:
                self._move(number, owner)
            return int(number) if words else None
        proven = self._db.number("SELECT max(proven) FROM posting_records WHERE publisher = ? AND identity = ?", key)
        self._db.execute("DELETE FROM posting_records WHERE publisher = ? AND identity = ?", key)
        words = " ".join(["", *(term for field in record.record().terms.values() for term in field), ""])
        # The identity is of the content, so a proof outlives a new title.
        values = (*key, owner.id, record.sequence, plain(words, 4096), signed.body, signed.signature, proven)
        cursor = self._db.execute(
            "INSERT INTO posting_records (publisher, identity, owner, sequence, words, body, signature, proven)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        return int(cursor.lastrowid or 0)

    def _move(self, number: int, owner: Owner) -> None:
        """Another node speaks for this record now: it is on that one's account."""
        terms = [row[0] for row in self._db.all("SELECT term FROM postings WHERE record = ?", (number,))]
        for term in terms:
            self._take_away(term, number)
        self._db.execute("UPDATE posting_records SET owner = ? WHERE id = ?", (owner.id, number))
        for term in terms:
            self._place(term, number, owner)

    def _place(self, term: str, number: int, owner: Owner) -> bool:
        if self._db.first("SELECT 1 FROM postings WHERE term = ? AND record = ?", (term, number)) is not None:
            return True
        origin = owner.origin
        if self.count() >= self._most or (origin.small and self._of_net(origin.small) >= PER_NET):
            return False
        verdict = self._room_of(term).weigh(origin)
        if not verdict.taken:
            return False
        if verdict.evict is not None:
            self._evict(term, verdict.evict)
        self._db.execute("INSERT INTO postings VALUES (?, ?, ?)", (term, number, owner.id))
        self._db.execute("UPDATE posting_owners SET postings = postings + 1 WHERE id = ?", (owner.id,))
        self._counted(term, origin, 1)
        return True

    def _of_net(self, small: str) -> int:
        return self._db.number("SELECT sum(postings) FROM posting_owners WHERE small = ?", (small,))

    def _room_of(self, term: str) -> TermRoom:
        room = self._rooms.pop(term, None)
        if room is None:
            rows = self._db.all(
                "SELECT o.publisher, o.small, o.large, count(*) FROM postings p JOIN posting_owners o ON o.id = p.owner"
                " WHERE p.term = ? GROUP BY p.owner",
                (term,),
            )
            own = term.startswith(OVERFLOW)
            room = TermRoom([(Origin(*row[:3]), row[3]) for row in rows], room=self._room, own=own)
            self._origins += room.origins
            while self._rooms and (len(self._rooms) >= _CACHED_ROOMS or self._origins > _CACHED_ORIGINS):
                self._origins -= self._rooms.popitem(last=False)[1].origins
        self._rooms[term] = room
        return room

    def _counted(self, term: str, origin: Origin, change: int) -> None:
        room = self._room_of(term)
        before = room.origins
        room.count(origin, change)
        self._origins += room.origins - before
        if self._count is not None:
            self._count += change

    def _evict(self, term: str, origin: Origin) -> None:
        """Drop the newest posting of `origin` under `term`, one that is not proven if there is one."""
        row = self._db.first(
            "SELECT p.record FROM postings p JOIN posting_owners o ON o.id = p.owner"
            " JOIN posting_records r ON r.id = p.record"
            " WHERE p.term = ? AND o.publisher = ? AND o.small = ? ORDER BY r.proven > 0, p.record DESC LIMIT 1",
            (term, origin.publisher, origin.small),
        )
        if row is not None:
            self._take_away(term, row[0])
            self._drop_if_empty(row[0])

    def _take_away(self, term: str, number: int) -> None:
        row = self._db.first(
            "SELECT o.id, o.publisher, o.small, o.large FROM postings p JOIN posting_owners o ON o.id = p.owner"
            " WHERE p.term = ? AND p.record = ?",
            (term, number),
        )
        if row is None:
            return
        self._room_of(term)  # is counted before the row goes
        self._db.execute("DELETE FROM postings WHERE term = ? AND record = ?", (term, number))
        self._db.execute("UPDATE posting_owners SET postings = postings - 1 WHERE id = ?", (row[0],))
        self._counted(term, Origin(*row[1:]), -1)

    def _drop_if_empty(self, number: int) -> None:
        """A record without a posting goes; a tombstone stays (it has no words)."""
        self._db.execute(
            "DELETE FROM posting_records WHERE id = ? AND words <> '' AND NOT EXISTS"
            " (SELECT 1 FROM postings WHERE record = posting_records.id)",
            (number,),
        )

    def _empty(self, publisher: bytes, identity: bytes) -> int:
        """Drop the postings of a thing; how many there were."""
        sql = "SELECT p.term, p.record FROM posting_records r JOIN postings p ON p.record = r.id"
        rows = self._db.all(f"{sql} WHERE r.publisher = ? AND r.identity = ?", (publisher, identity))
        for term, number in rows:
            self._take_away(term, number)
        return len(rows)

    def bury(self, owner: Owner, signed: Signed, identity: bytes, sequence: int) -> int:
        """A tombstone: what it ends goes, and older records do not come back. How many postings went."""
        publisher = owner.origin.publisher
        known = self.sequence(publisher, identity)
        if known < 0 or known >= sequence:  # what was never here needs no tombstone; a replay is none
            return 0
        with self._writing():
            gone = self._empty(publisher, identity)
            self._db.execute("DELETE FROM posting_records WHERE publisher = ? AND identity = ?", (publisher, identity))
            self._db.execute(
                "INSERT INTO posting_records (publisher, identity, owner, sequence, words, body, signature)"
                " VALUES (?, ?, ?, ?, '', ?, ?)",
                (publisher, identity, owner.id, sequence, signed.body, signed.signature),
            )
        return gone

    def keep_only(self, owner: Owner, low: bytes, high: bytes, identities: Iterable[bytes]) -> int:
        """Drop what this owner placed with an identity from `low` up to `high`, but for `identities`: how many went."""
        kept = set(identities)
        rows = self._db.all(
            "SELECT identity FROM posting_records WHERE publisher = ? AND identity >= ? AND identity <= ? AND owner = ?"
            " AND words <> ''",
            (owner.origin.publisher, low, high, owner.id),
        )
        gone = [row[0] for row in rows if row[0] not in kept]
        with self._writing():
            count = sum(self._empty(owner.origin.publisher, identity) for identity in gone)
            sql = "DELETE FROM posting_records WHERE publisher = ? AND identity = ?"
            self._db.executemany(sql, [(owner.origin.publisher, identity) for identity in gone])
        return count

    def find(self, term: str, also: Iterable[str], now: float, limit: int) -> list[Kept]:
        """Records under `term` of publishers that live, whose words hold every term of `also`; at most `limit`.

        Those of nodes that were proven to hold what they publish come first. The subnets take turns, and in each the
        oldest come first, so that one with many does not hide the others.
        """
        wanted = [f" {one} " for one in also]
        tests = "".join(" AND instr(r.words, ?)" for _ in wanted)
        rows = self._db.all(
            "SELECT r.publisher, r.body, r.signature, r.proven FROM postings p JOIN posting_owners o ON o.id = p.owner"
            f" JOIN posting_records r ON r.id = p.record WHERE p.term = ? AND o.seen > ?{tests}"
            " ORDER BY o.proven = 0, row_number() OVER (PARTITION BY o.small, o.proven = 0 ORDER BY p.record), p.record"
            " LIMIT ?",
            (term, now - HIDDEN, *wanted, limit),
        )
        return [Kept(Signed(*row[:3]), row[3]) for row in rows]

    def full(self, term: str, limit: int = MAX_FULL) -> list[Named]:
        """Publishers that have as many postings under `term` as one may have: the proven, then the oldest first."""
        sql = "SELECT min(since), max(proven) FROM posting_owners WHERE publisher = ?"
        found = []
        for publisher in self._room_of(term).full():
            since, proven = self._db.all(sql, (publisher,))[0]
            found.append(Named(publisher, int(since or 0), bool(proven)))
        return sorted(found, key=lambda one: (not one.proven, one.since, one.publisher))[:limit]

    def doubtful(self, now: float, start: int, part: float) -> Doubtful | None:
        """A record of the first living publisher's node numbered `start` or higher that was not proven for a week.

        `part`, 0 up to 1, says which of its records.
        """
        sql = (
            "SELECT id, sender, postings FROM posting_owners WHERE id >= ? AND proven < ? AND seen > ? AND postings > 0"
        )
        owner = self._db.first(f"{sql} ORDER BY id LIMIT 1", (start, now - PROVEN_FOR, now - HIDDEN))
        if owner is None:
            return None
        few = "SELECT id, body FROM posting_records WHERE owner = ? AND words <> ''"
        count = self._db.number("SELECT count(*) FROM posting_records WHERE owner = ? AND words <> ''", (owner[0],))
        row = self._db.first(f"{few} LIMIT 1 OFFSET ?", (owner[0], int(part * count)))
        return None if row is None else Doubtful(row[0], owner[0], owner[1], row[1])

    def newest_owner(self) -> int:
        """The highest number of a publisher's node; 0 when there is none."""
        return self._db.number("SELECT max(id) FROM posting_owners")

    def prove(self, one: Doubtful, proven: float) -> None:
        """Its sender was seen to hold a part of it at `proven` (unix seconds); 0: was asked, and holds it not."""
        with self._db.relaxed():
            self._db.execute("UPDATE posting_records SET proven = ? WHERE id = ?", (int(proven), one.id))
            sql = (
                "UPDATE posting_owners SET proven = coalesce(nullif(?, 0),"
                " (SELECT max(proven) FROM posting_records WHERE owner = ?2)) WHERE id = ?2"
            )
            self._db.execute(sql, (int(proven), one.owner))

    def is_full(self, term: str) -> bool:
        """Whether the list of `term` has no room left but by eviction: what comes belongs in a shard too."""
        return not term.startswith(OVERFLOW) and self._room_of(term).total >= self._room

    def full_lists(self) -> list[str]:
        """The full ones of the terms that were placed under or looked for lately, the latest last."""
        return [term for term, room in self._rooms.items() if room.total >= self._room and term[:1] != OVERFLOW]

    def counts(self, terms: Iterable[str]) -> dict[str, int]:
        """How many postings each term has here; those with none are left out."""
        found = {term: self._db.number("SELECT count(*) FROM postings WHERE term = ?", (term,)) for term in terms}
        return {term: count for term, count in found.items() if count}

    def of_owner(self, owner: Owner) -> list[tuple[str, bytes, int]]:
        """(term, identity, sequence) of all its postings, for a digest; at most as many as a subnet may have."""
        return self._db.all(
            "SELECT p.term, r.identity, r.sequence FROM posting_records r JOIN postings p ON p.record = r.id"
            " WHERE r.owner = ? LIMIT ?",
            (owner.id, 20 * PER_NET),
        )

    def expire(self, now: float) -> int:
        """Delete a piece of what belongs to publishers that were not heard of for 14 days; 0 when nothing is left."""
        row = self._db.first("SELECT id FROM posting_owners WHERE seen <= ? LIMIT 1", (now - DELETED,))
        if row is None:
            return 0
        sql = "SELECT id FROM posting_records WHERE owner = ? LIMIT ?"
        records = [one[0] for one in self._db.all(sql, (row[0], _REMOVED_AT_ONCE // 10))]
        with self._writing():
            for number in records:
                for (term,) in self._db.all("SELECT term FROM postings WHERE record = ?", (number,)):
                    self._take_away(term, number)
                self._db.execute("DELETE FROM posting_records WHERE id = ?", (number,))
            if not records:
                self._db.execute("DELETE FROM posting_owners WHERE id = ?", (row[0],))
        return max(1, len(records))

    def count(self) -> int:
        if self._count is None:
            self._count = self._db.number("SELECT sum(postings) FROM posting_owners")
        return self._count
