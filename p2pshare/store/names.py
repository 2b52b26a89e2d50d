"""The names in the catalogue, as they are written and listed: items themselves, and the files inside directories."""

from __future__ import annotations

from collections.abc import Iterable

from p2pshare.store.database import Database
from p2pshare.store.filetypes import type_of
from p2pshare.store.found import type_words
from p2pshare.store.model import ItemDraft, NameRow
from p2pshare.store.text import blob_to_path, path_to_blob
from p2pshare_protocols import terms
from p2pshare_protocols.cid import CID

NameTuple = tuple[str, str, CID | bytes, int, str]


class Names:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add_item(self, item_id: int, draft: ItemDraft, kind_of_file: str) -> None:
        cursor = self._db.execute(
            "INSERT INTO names (item, path, cid, size, kind, type) VALUES (?, x'', NULL, ?, ?, ?)",
            (item_id, draft.size, draft.kind, kind_of_file),
        )
        columns = (draft.name, " | ".join(draft.tags), draft.title)
        self._db.execute(
            "INSERT INTO words (rowid, name, tags, title, path, type) VALUES (?, ?, ?, ?, '', ?)",
            (cursor.lastrowid, *(terms.index_text(one) for one in columns), type_words(kind_of_file, draft.name)),
        )

    def add_many(self, item_id: int, item_name: str, rows: Iterable[NameTuple | NameRow]) -> None:
        first = self._db.number("SELECT max(id) FROM names") + 1
        names: list[tuple[object, ...]] = []
        words: list[tuple[object, ...]] = []
        directories: dict[str, str] = {}
        for number, (path, name, cid, size, kind, *told) in enumerate(rows, first):
            kind_of_file = "other" if kind == "directory" else (told and told[0]) or type_of(name)
            key = cid if isinstance(cid, bytes) else cid.v1.binary
            names.append((number, item_id, path_to_blob(path), key, size, kind, kind_of_file))
            above = path.rpartition("/")[0]
            text = directories.get(above)
            if text is None:
                text = directories[above] = terms.index_text(f"{item_name}/{above}")
            words.append((number, terms.index_text(name), text, type_words(kind_of_file, name)))
        self._db.executemany("INSERT INTO names VALUES (?, ?, ?, ?, ?, ?, ?)", names)
        self._db.executemany(
            "INSERT INTO words (rowid, name, tags, title, path, type) VALUES (?, ?, '', '', ?, ?)", words
        )

    def of_item(self, item_id: int, limit: int, after: int = 0) -> list[tuple[int, NameRow]]:
        """(position, row) of the names inside an item, in the order in which they were added."""
        rows = self._db.all(
            "SELECT id, path, cid, size, kind, type FROM names"
            " WHERE item = ? AND id > ? AND path <> x'' ORDER BY id LIMIT ?",
            (item_id, after, limit),
        )
        return [
            (number, NameRow(path, path.rpartition("/")[2], CID.from_binary(cid), size, kind, type_))
            for number, path, cid, size, kind, type_ in ((r[0], blob_to_path(r[1]), *r[2:]) for r in rows)
        ]

    def release(self, item_id: int, limit: int) -> int:
        """Take up to `limit` names of an item away; returns how many went."""
        with self._db.transaction():
            rows = self._db.all("SELECT id FROM names WHERE item = ? LIMIT ?", (item_id, limit))
            self._db.executemany("DELETE FROM words WHERE rowid = ?", rows)
            self._db.executemany("DELETE FROM names WHERE id = ?", rows)
        return len(rows)
