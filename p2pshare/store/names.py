"""The names in the catalogue, and the search over them: items themselves, and the files inside directories."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from p2pshare.store.database import Database
from p2pshare.store.filetypes import type_of
from p2pshare.store.model import FoundRow, ItemDraft, NameRow
from p2pshare.store.text import blob_to_path, from_json, path_to_blob
from p2pshare_protocols import terms
from p2pshare_protocols.cid import CID
from p2pshare_protocols.query_model import Query

# bm25 weights of the columns name, tags, title, path, type: a word in the name says most.
_WEIGHTS: Final = "10.0, 6.0, 4.0, 2.0, 1.0"
_MAX_SCANNED: Final = 50_000  # matching rows looked at for the filters that SQL does not know

_FOUND: Final = (
    "n.item, n.cid, i.cid, n.path, n.size, n.type, n.kind, i.name, i.tags, i.created, i.title"
    " FROM {source} JOIN items i ON i.id = n.item WHERE i.removing = 0"
)

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
            (cursor.lastrowid, *(terms.index_text(column) for column in columns), kind_of_file),
        )

    def add_many(self, item_id: int, item_name: str, rows: Iterable[NameTuple | NameRow]) -> None:
        first = self._db.number("SELECT max(id) FROM names") + 1
        names: list[tuple[object, ...]] = []
        words: list[tuple[object, ...]] = []
        directories: dict[str, str] = {}
        for number, (path, name, cid, size, kind) in enumerate(rows, first):
            kind_of_file = "other" if kind == "directory" else type_of(name)
            key = cid if isinstance(cid, bytes) else cid.v1.binary
            names.append((number, item_id, path_to_blob(path), key, size, kind, kind_of_file))
            above = path.rpartition("/")[0]
            text = directories.get(above)
            if text is None:
                text = directories[above] = terms.index_text(f"{item_name}/{above}")
            words.append((number, terms.index_text(name), text, kind_of_file))
        self._db.executemany("INSERT INTO names VALUES (?, ?, ?, ?, ?, ?, ?)", names)
        self._db.executemany(
            "INSERT INTO words (rowid, name, tags, title, path, type) VALUES (?, ?, '', '', ?, ?)", words
        )

    def of_item(self, item_id: int, limit: int, after: int = 0) -> list[tuple[int, NameRow]]:
        """(position, row) of the names inside an item, in the order in which they were added."""
        rows = self._db.all(
            "SELECT id, path, cid, size, kind FROM names WHERE item = ? AND id > ? AND path <> x'' ORDER BY id LIMIT ?",
            (item_id, after, limit),
        )
        return [
            (number, NameRow(path, path.rpartition("/")[2], CID.from_binary(cid), size, kind))
            for number, path, cid, size, kind in ((r[0], blob_to_path(r[1]), *r[2:]) for r in rows)
        ]

    def release(self, item_id: int, limit: int) -> int:
        """Take up to `limit` names of an item away; returns how many went."""
        with self._db.transaction():
            rows = self._db.all("SELECT id FROM names WHERE item = ? LIMIT ?", (item_id, limit))
            self._db.executemany("DELETE FROM words WHERE rowid = ?", rows)
            self._db.executemany("DELETE FROM names WHERE id = ?", rows)
        return len(rows)

    def search(self, query: Query, limit: int) -> list[FoundRow]:
        """Best first. A query of filters alone gives the newest first."""
        condition, values = _filters(query)
        match = match_expression(query)
        if match is not None:
            source = "words w JOIN names n ON n.id = w.rowid"
            sql = f"SELECT -bm25(words, {_WEIGHTS}) AS score, {_FOUND.format(source=source)}{condition}"
            sql += " AND words MATCH ? ORDER BY score DESC, n.id"
            values.append(match)
        else:
            sql = f"SELECT 0.0, {_FOUND.format(source='names n')}{condition} ORDER BY i.created DESC, n.id"
            excluded = _any(query.excluded)
            if excluded is not None:
                sql = sql.replace(
                    " ORDER BY", " AND n.id NOT IN (SELECT rowid FROM words WHERE words MATCH ?) ORDER BY"
                )
                values.append(excluded)
        cursor = self._db.execute(sql + f" LIMIT {_MAX_SCANNED}", values)
        return list(islice(_admitted(cursor, query), max(0, limit)))


def match_expression(query: Query) -> str | None:
    """The query's words as FTS5 reads them (sqlite.org/fts5.html, section 3); None when it asks for no word."""
    groups = [_any(group) for group in query.required()]
    if not groups:
        return None
    expression = " AND ".join(f"({group})" for group in groups)
    excluded = _any(query.excluded)
    return expression if excluded is None else f"({expression}) NOT ({excluded})"


def _any(clauses: Iterable[str]) -> str | None:
    """Clauses of which one must hold. A quoted string of several terms is a phrase: neighbours in one column."""
    return " OR ".join('"' + clause.replace('"', '""') + '"' for clause in clauses) or None


def _filters(query: Query) -> tuple[str, list[object]]:
    """The filters that SQL can tell, with their values."""
    tests: list[tuple[str, object]] = [
        ("n.size >= ?", query.min_size),
        ("n.size <= ?", query.max_size),
        ("i.created >= ?", query.newer),
        ("i.created < ?", query.older),
    ]
    given = [(test, value) for test, value in tests if value is not None]
    condition = "".join(f" AND {test}" for test, _ in given)
    values = [value for _, value in given]
    if query.type:
        condition += f" AND n.type IN ({','.join('?' * len(query.type))})"
        values += query.type
    return condition, values


def _admitted(cursor: sqlite3.Cursor, query: Query) -> Iterator[FoundRow]:
    """Rows that the remaining filters let through: endings of names, and tags of the item."""
    endings = tuple("." + extension for extension in query.ext)
    wanted = set(query.tag)
    for row in cursor:
        found = _found_row(row)
        if endings and not terms.normalise(found.name).endswith(endings):
            continue
        if wanted and not wanted <= {terms.normalise(tag) for tag in found.tags}:
            continue
        yield found


def _found_row(row: tuple[Any, ...]) -> FoundRow:
    score, item, cid, root, path_blob, size, kind_of_file, kind, item_name, tags, created, title = row
    path = blob_to_path(path_blob)
    return FoundRow(
        item_id=item,
        cid=CID.from_binary(root if cid is None else cid),
        root_cid=CID.from_binary(root),
        path_in_item=path,
        name=path.rpartition("/")[2] if path else blob_to_path(item_name),
        size=size,
        type=kind_of_file,
        score=score,
        kind=kind,
        created=created,
        tags=tuple(from_json(tags)),
        title=title,
    )
