"""Search over the catalogue's names, made for 1,000,000 of them: no query looks at more rows than it has to tell.

FTS5 walks the rows of a match from the newest to the oldest and stops when enough were taken
(sqlite.org/fts5.html, section 4); its bm25() would visit every row of every word first, 0.4 s for a common one.
So rows come in classes instead: all words in the name, then all in the tags, then anywhere; in each the newest first.
"""

# ruff: noqa: S608 - the pieces of SQL that are put together here are constants of this file

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from p2pshare.store.database import Database, Interrupted
from p2pshare.store.model import FoundRow, FoundRows
from p2pshare.store.text import blob_to_path, from_json
from p2pshare_protocols import terms
from p2pshare_protocols.cid import CID
from p2pshare_protocols.query_model import Query

_STEP: Final = 2000  # instructions of SQLite's machine between two looks at the clock, some 0.1 ms
_MAX_ENDING: Final = 32  # characters of a file name's ending that are kept as a term

_COLUMNS: Final = (
    "n.id, n.item, n.cid, i.cid, n.path, n.size, n.type, n.kind, i.name, i.tags, i.created, i.title, i.mime, i.state,"
    " i.indexed, i.origin"
)
# CROSS JOIN keeps the order in which they stand (sqlite.org/optoverview.html, section 8.1).
_BY_WORDS: Final = (
    f"SELECT {_COLUMNS} FROM words w CROSS JOIN names n ON n.id = w.rowid CROSS JOIN items i ON i.id = n.item"
    " WHERE words MATCH ? AND i.removing = 0{filters} ORDER BY w.rowid DESC"
)
_BY_AGE: Final = (
    f"SELECT {_COLUMNS} FROM names n CROSS JOIN items i ON i.id = n.item"
    " WHERE i.removing = 0{filters} ORDER BY n.id DESC"
)


def type_words(kind: str, name: str) -> str:
    """The column `type` of a name: its type, and its ending with the dot, so that no word of a query is one."""
    ending = name.rpartition(".")[2] if "." in name else ""
    return _type_words(kind, ending) if len(ending) <= 4 * _MAX_ENDING else kind  # composing makes it shorter


@lru_cache(1024)
def _type_words(kind: str, ending: str) -> str:
    ending = terms.normalise(ending)
    usable = 0 < len(ending) <= _MAX_ENDING and not any(map(_separates, ending))
    return f"{kind} .{ending}" if usable else kind


def _separates(sign: str) -> bool:
    """What the column cannot hold in a word: spaces, zero, and bytes of a name that are no text."""
    return sign.isspace() or sign == "\0" or "\ud800" <= sign <= "\udfff"


def search(database: Database, query: Query, limit: int, *, seconds: float, stop: threading.Event) -> FoundRows:
    """Up to `limit` rows, the best class first; those found so far after `seconds` or when `stop` is set.

    They are candidates: `Query.matches` decides about the publisher, which is not known here. Raises LocalError.
    """
    rows: dict[int, FoundRow] = {}
    deadline = time.monotonic() + seconds

    def over() -> bool:
        return stop.is_set() or time.monotonic() > deadline

    with database.interrupted(over, _STEP):
        try:
            for row in _candidates(database, query):
                if row[0] not in rows and (found := _admitted(row, query)) is not None:
                    if len(rows) >= max(0, limit):
                        return FoundRows(list(rows.values()), complete=False)
                    rows[row[0]] = found
        except Interrupted:
            return FoundRows(list(rows.values()), complete=False)
    return FoundRows(list(rows.values()), complete=True)


def _candidates(database: Database, query: Query) -> Iterator[tuple[Any, ...]]:
    """Rows of the classes, one after the other; a row may come in more than one."""
    filters, values = _filters(query)
    held = _held_by_type(query)
    words = [_any(group) for group in query.required()]
    excluded = _any(query.excluded)
    if not words and not held:
        sql = _BY_AGE
        if excluded:
            filters += " AND n.id NOT IN (SELECT rowid FROM words WHERE words MATCH ?)"
            values = [*values, excluded]
        yield from database.rows(sql.format(filters=filters), values)
        return
    for column in ("name : ", "tags : ", "") if words else ("",):
        parts = [f"({column}({group}))" for group in words] + held
        expression = " AND ".join(parts)
        if excluded:
            expression = f"({expression}) NOT ({excluded})"
        yield from database.rows(_BY_WORDS.format(filters=filters), [expression, *values])


def _held_by_type(query: Query) -> list[str]:
    """The filters that terms can tell; of an ending with two dots the last part, of a tag its words."""
    held = []
    if query.type:
        held.append(f"(type : ({_any(query.type)}))")
    if query.ext:
        held.append(f"(type : ({_any('.' + ending.rpartition('.')[2] for ending in query.ext)}))")
    for tag in query.tag:
        held += [f'(tags : "{term}")' for term in terms.sequence(tag) if '"' not in term]
    return held


def _any(clauses: Iterable[str]) -> str:
    """Clauses of which one must hold. A quoted string of several terms is a phrase: neighbours in one column."""
    return " OR ".join('"' + clause.replace('"', '""') + '"' for clause in clauses)


def _filters(query: Query) -> tuple[str, list[object]]:
    """The filters that SQL can tell, with their values."""
    tests: list[tuple[str, object]] = [
        ("n.size >= ?", query.min_size),
        ("n.size <= ?", query.max_size),
        ("i.created >= ?", query.newer),
        ("i.created < ?", query.older),
    ]
    given = [(test, value) for test, value in tests if value is not None]
    return "".join(f" AND {test}" for test, _ in given), [value for _, value in given]


def _admitted(row: tuple[Any, ...], query: Query) -> FoundRow | None:
    """The row, when its whole ending and its whole tags are those asked for."""
    found = _found_row(row)
    if query.ext and not terms.normalise(found.name).endswith(tuple("." + ending for ending in query.ext)):
        return None
    if query.tag and not set(query.tag) <= {terms.normalise(tag) for tag in found.tags}:
        return None
    return found


def _found_row(row: tuple[Any, ...]) -> FoundRow:
    _, item, cid, root, path_blob, size, kind_of_file, kind, item_name, tags, created, title, *rest = row
    mime, state, indexed, origin = rest
    path = blob_to_path(path_blob)
    name = blob_to_path(item_name)
    return FoundRow(
        item_id=item,
        cid=CID.from_binary(root if cid is None else cid),
        root_cid=CID.from_binary(root),
        path_in_item=path,
        name=path.rpartition("/")[2] if path else name,
        item_name=name,
        size=size,
        type=kind_of_file,
        kind=kind,
        created=created,
        tags=tuple(from_json(tags)),
        title=title,
        mime=mime,
        state=state,
        index=bool(indexed),
        origin=origin,
    )
