"""The items: what a person shared or fetched, each with its names, its files and its blocks."""

# ruff: noqa: S608 - the pieces of SQL that are put together here are constants of this file

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from p2pshare.errors import Exists, NotFound, UsageError
from p2pshare.store.blocks import Blocks
from p2pshare.store.database import Database
from p2pshare.store.filetypes import type_of
from p2pshare.store.model import Item, ItemDraft, ItemState, NameRow
from p2pshare.store.names import Names, NameTuple
from p2pshare.store.references import References
from p2pshare.store.text import blob_to_path, from_json, path_to_blob, plain, to_json
from p2pshare_protocols.cid import CID

MAX_TAGS: Final = 64
MAX_TAG: Final = 128
MAX_TITLE: Final = 1024
MAX_DESCRIPTION: Final = 16 << 10
_REMOVED_AT_ONCE: Final = 2000  # rows a transaction
_FLUSH_BYTES: Final = 256 << 20  # sent bytes that may be counted in memory only

# Methods called `list` hide the type in the rest of a class.
ItemList = list[Item]
NameList = list[tuple[int, NameRow]]

_PUBLIC: Final = "indexed = 1 AND state = 'ok' AND origin = 'shared'"
_COLUMNS = (
    "id, cid, name, path, size, files, kind, type, mime, tags, title, description, hash, state, origin,"
    " announce, indexed, created, last_announced, stored, asked, bytes_sent"
)


class Items:
    """Items are known by CIDv1. Two items may have one CID (two copies of a file), never one CID and one path."""

    def __init__(
        self, database: Database, references: References, blocks: Blocks, wall_clock: Callable[[], float]
    ) -> None:
        self._db = database
        self._references = references
        self._blocks = blocks
        self._names = Names(database)
        self._now = wall_clock
        self._sent: dict[int, int] = {}
        self._unwritten = 0

    def add(self, draft: ItemDraft) -> Item:
        """A new item, found by its words from now on. Raises Exists when this path is shared with this CID."""
        cid = draft.cid.v1.binary
        path = None if draft.path is None else path_to_blob(draft.path)
        kind_of_file = draft.type or ("other" if draft.kind == "directory" else type_of(draft.name, draft.mime))
        tags = [plain(tag, MAX_TAG) for tag in draft.tags]
        if len(tags) > MAX_TAGS:
            raise UsageError(f"an item may have at most {MAX_TAGS} tags; this one has {len(tags)}")
        with self._db.transaction():
            sql = "SELECT id FROM items WHERE cid = ? AND path IS ? AND removing = 0"
            if self._db.first(sql, (cid, path)) is not None:
                raise Exists(f"{plain(draft.name, 255)} is in the catalogue already")
            cursor = self._db.execute(
                "INSERT INTO items (cid, name, path, size, files, kind, type, mime, tags, title, description, hash,"
                " state, origin, announce, indexed, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(cid, path_to_blob(draft.name), path, draft.size, draft.files, draft.kind, kind_of_file),
                    *(plain(draft.mime, 255), to_json(tags), plain(draft.title, MAX_TITLE)),
                    *(plain(draft.description, MAX_DESCRIPTION), draft.hash, draft.state, draft.origin),
                    *(draft.announce, draft.index, self._now() if draft.created is None else draft.created),
                ),
            )
            item_id = int(cursor.lastrowid or 0)
            self._names.add_item(item_id, draft, kind_of_file)
            return self.get(item_id)

    def add_names(self, item_id: int, rows: Iterable[NameTuple | NameRow]) -> None:
        """The files (and directories) inside an item: (path_in_item, name, cid, size, kind).

        They become searchable and listable. Batches of about 10,000 keep a transaction short.
        """
        with self._db.transaction():
            self._names.add_many(item_id, self.get(item_id).name, rows)

    def names(self, item_id: int, limit: int = 1000, after: int = 0) -> NameList:
        """A page of (position, row) of what is inside an item; pass the last position as `after` for the next."""
        return self._names.of_item(item_id, limit, after)

    def get(self, item_id: int) -> Item:
        """Raises NotFound."""
        found = self._select("id = ?", (item_id,))
        if not found:
            raise NotFound(f"there is no item {item_id}")
        return found[0]

    def by_cid(self, cid: CID) -> Item | None:
        """The newest item with this root, one in state "ok" before others."""
        found = self._select("cid = ?", (cid.v1.binary,), "state = 'ok' DESC, id DESC LIMIT 1")
        return found[0] if found else None

    def all_by_cid(self, cid: CID) -> ItemList:
        return self._select("cid = ?", (cid.v1.binary,))

    def by_path(self, path: str) -> Item | None:
        """The newest item that was shared from, or fetched to, this absolute path."""
        found = self._select("path = ?", (path_to_blob(path),), "id DESC LIMIT 1")
        return found[0] if found else None

    def list(self, limit: int = -1, after: int = 0) -> ItemList:
        """Items by id, from the one after `after`; all of them unless `limit` is given."""
        return self._select("id > ?", (after, limit), "id LIMIT ?")

    def public(self, limit: int, after: int = 0) -> ItemList:
        """What was shared for everybody to find and is as it was, by id, from the one after `after`."""
        return self._select(f"{_PUBLIC} AND id > ?", (after, limit), "id LIMIT ?")

    def newest_public(self) -> int:
        """The id of the newest of them; 0 when there is none."""
        row = self._db.first(f"SELECT id FROM items WHERE removing = 0 AND {_PUBLIC} ORDER BY id DESC LIMIT 1")
        return 0 if row is None else int(row[0])

    def _select(self, condition: str, values: tuple[object, ...], order: str = "id") -> ItemList:
        sql = f"SELECT {_COLUMNS} FROM items WHERE removing = 0 AND {condition} ORDER BY {order}"
        return [self._item(row) for row in self._db.all(sql, values)]

    def _item(self, row: tuple[Any, ...]) -> Item:
        return Item(
            id=row[0],
            cid=CID.from_binary(row[1]),
            name=blob_to_path(row[2]),
            path=None if row[3] is None else blob_to_path(row[3]),
            size=row[4],
            files=row[5],
            kind=row[6],
            type=row[7],
            mime=row[8],
            tags=tuple(from_json(row[9])),
            title=row[10],
            description=row[11],
            hash=row[12],
            state=row[13],
            origin=row[14],
            announce=bool(row[15]),
            index=bool(row[16]),
            created=row[17],
            last_announced=row[18],
            stored=row[19],
            asked=row[20],
            bytes_sent=row[21] + self._sent.get(row[0], 0),
        )

    def remove(self, item_id: int) -> None:
        """Forget an item with all that only it owns; the user's files are not touched. Raises NotFound."""
        for _ in self.remove_steps(item_id):
            pass

    def remove_steps(self, item_id: int) -> Iterator[None]:
        """`remove` in short transactions, for a caller that lets others run in between.

        The item is gone for every reader after the first step; `finish_removals` ends what a crash cut off.
        """
        with self._db.transaction():
            self.get(item_id)
            self._db.execute("UPDATE items SET removing = 1 WHERE id = ?", (item_id,))
        yield
        yield from self._empty(item_id)

    def _empty(self, item_id: int) -> Iterator[None]:
        for release in (self._names.release, self._references.release, self._blocks.release):
            while release(item_id, _REMOVED_AT_ONCE):
                yield
        self._db.execute("DELETE FROM items WHERE id = ?", (item_id,))
        self._sent.pop(item_id, None)

    def finish_removals(self) -> None:
        for row in self._db.all("SELECT id FROM items WHERE removing = 1"):
            for _ in self._empty(row[0]):
                pass

    def set_state(self, item_id: int, state: ItemState) -> None:
        self._update(item_id, "state = ?", (state,))

    def set_announced(self, item_id: int, when: float, stored: int, asked: int) -> None:
        """`stored` of `asked` nodes hold the provider record, as of `when`."""
        self._update(item_id, "last_announced = ?, stored = ?, asked = ?", (when, stored, asked))

    def _update(self, item_id: int, assignments: str, values: tuple[object, ...]) -> None:
        cursor = self._db.execute(f"UPDATE items SET {assignments} WHERE id = ?", (*values, item_id))
        if not cursor.rowcount:
            raise NotFound(f"there is no item {item_id}")

    def add_sent(self, item: int | CID, count: int) -> None:
        """Count bytes sent. Kept in memory and written now and then (and by `flush`); unknown items are ignored."""
        if isinstance(item, CID):
            found = self.by_cid(item)
            if found is None:
                return
            item = found.id
        self._sent[item] = self._sent.get(item, 0) + count
        self._unwritten += count
        if self._unwritten >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was only counted."""
        if not self._sent:
            return
        rows = [(count, item_id) for item_id, count in self._sent.items()]
        with self._db.relaxed():
            self._db.executemany("UPDATE items SET bytes_sent = bytes_sent + ? WHERE id = ?", rows)
        self._sent.clear()
        self._unwritten = 0

    def count(self) -> int:
        return self._db.number("SELECT count(*) FROM items WHERE removing = 0")

    def total_size(self) -> int:
        """Bytes of all items together; content that is in two items counts twice."""
        return self._db.number("SELECT sum(size) FROM items WHERE removing = 0")

    def size_under(self, directory: str) -> int:
        """Bytes of the items whose path lies below a directory."""
        prefix = path_to_blob(directory.rstrip("/"))
        sql = "SELECT sum(size) FROM items WHERE removing = 0 AND path > ? AND path < ?"
        return self._db.number(sql, (prefix + b"/", prefix + b"0"))
