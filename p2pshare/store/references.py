"""Where chunks lie in users' own files: (path, offset, length), and what the file was like when it was hashed."""

# ruff: noqa: S608 - the pieces of SQL that are put together here are constants of this file

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from p2pshare.errors import UsageError
from p2pshare.store.database import Database
from p2pshare.store.model import FileState, Located, SourceFile
from p2pshare.store.text import join_path, path_to_blob, split_path

MAX_PLACES = 16  # places returned for one chunk; zeros are everywhere in some disk images
_MAX_SORTED = 64  # places looked at to find the best: a chunk of zeros may have ten thousand
_PAGE = 1000

Chunk = tuple[bytes, int, int]  # CIDv1 binary, offset, length
Known = tuple[int, int, int, int, bytes]  # id, size, inode, mtime_ns, root CID in binary

_SAME_PATH = "SELECT name, id, size, inode, mtime_ns, state FROM files WHERE directory = ?"
_ASKED = 256  # names in one statement

_FILE = (
    "SELECT f.id, d.path, f.name, f.size, f.inode, f.mtime_ns, f.state, f.root"
    " FROM files f JOIN directories d ON d.id = f.directory"
)

_PLACE = (
    "d.path, f.name, c.offset, c.length, f.size, f.inode, f.mtime_ns, f.id,"
    " (SELECT min(item) FROM item_files WHERE file = f.id), f.verified, f.transform, f.state"
)
_LOCATED = 64  # chunks in one statement, which is always the same
_FEW = 4  # chunks that are sooner looked up one by one
_MAX_LOCATED = 2 * _LOCATED  # rows of it; a chunk of zeros may have ten thousand
_MANY = (
    f"WITH asked(cid) AS (VALUES {','.join(['(?)'] * _LOCATED)}) SELECT {_PLACE}, a.cid FROM asked a"
    " CROSS JOIN chunks c ON substr(c.cid, 5, 8) = substr(a.cid, 5, 8) AND c.cid = a.cid"
    f" CROSS JOIN files f ON f.id = c.file CROSS JOIN directories d ON d.id = f.directory LIMIT {_MAX_LOCATED + 1}"
)


class References:
    """Paths are absolute, as `str` with surrogate escapes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_many(
        self,
        item_id: int,
        file: SourceFile,
        chunks: Iterable[Chunk],
        *,
        root: bytes | None = None,
        growing: bool = False,
    ) -> int:
        """Record that `chunks` (CIDv1 binary, offset, length) lie in `file`, for an item. Returns the file's id.

        May be called several times for one file. When the file is not what an earlier call said (size, inode or
        mtime), the older chunks are dropped and other items with it become "changed"; `growing` says that the
        older chunks still hold (a fetch that writes the file). `root` is the file's own CID, for `known`; a file
        of one chunk does not need it.
        """
        return self.add_files(item_id, [(file, list(chunks), root)], growing=growing)[0]

    def add_files(
        self,
        item_id: int,
        files: Sequence[tuple[SourceFile, Sequence[Chunk], bytes | None]],
        *,
        growing: bool = False,
    ) -> list[int]:
        """`add_many` for many files at once: (file, chunks, root) of each, one transaction. Returns their ids."""
        with self._db.transaction():
            ids = self._put_files(item_id, files, growing)
            self._db.executemany(
                "INSERT OR IGNORE INTO item_files VALUES (?, ?)", [(item_id, file_id) for file_id in ids]
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO chunks (file, offset, length, cid) VALUES (?, ?, ?, ?)",
                [
                    (file_id, offset, length, cid)
                    for file_id, (_, chunks, _) in zip(ids, files, strict=True)
                    for cid, offset, length in chunks
                ],
            )
        return ids

    def _put_files(
        self, item_id: int, files: Sequence[tuple[SourceFile, Sequence[Chunk], bytes | None]], growing: bool
    ) -> list[int]:
        places = [split_path(file.path) for file, _, _ in files]
        names: dict[bytes, list[bytes]] = {}
        for directory, name in places:
            names.setdefault(directory, []).append(name)
        if len(set(places)) != len(places):
            raise UsageError("a file stands twice in one batch")
        directories = {directory: self._directory(directory) for directory in names}
        known = {directory: self._same_paths(directories[directory], inside) for directory, inside in names.items()}
        ids: list[int] = []
        fresh: list[tuple[object, ...]] = []
        following = self._db.number("SELECT seq FROM sqlite_sequence WHERE name = 'files'") + 1
        for (directory, name), (file, chunks, root) in zip(places, files, strict=True):
            if root is None and len(chunks) == 1 and chunks[0][1:] == (0, file.size):
                root = chunks[0][0]
            same = known[directory].get(name)
            if same is not None:
                ids.append(self._put_again(item_id, file, root, same, growing))
                continue
            inode = _signed(file.inode)
            fresh.append((following, directories[directory], name, file.size, inode, file.mtime_ns, root))
            ids.append(following)
            following += 1
        self._db.executemany(
            "INSERT INTO files (id, directory, name, size, inode, mtime_ns, root) VALUES (?, ?, ?, ?, ?, ?, ?)", fresh
        )
        return ids

    def _same_paths(self, directory: int, names: Sequence[bytes]) -> dict[bytes, tuple[Any, ...]]:
        """What is known at these names of a directory: name -> (id, size, inode, mtime_ns, state)."""
        found: dict[bytes, tuple[Any, ...]] = {}
        for at in range(0, len(names), _ASKED):
            some = names[at : at + _ASKED]
            sql = f"{_SAME_PATH} AND name IN ({','.join('?' * len(some))})"
            found.update((row[0], row[1:]) for row in self._db.all(sql, (directory, *some)))
        return found

    def _put_again(
        self, item_id: int, file: SourceFile, root: bytes | None, known: tuple[Any, ...], growing: bool
    ) -> int:
        """A path that the catalogue has: the same content still, or other content now."""
        file_id = int(known[0])
        identity = [file.size, _signed(file.inode), file.mtime_ns]
        if [*known[1:]] != [*identity, "ok"]:
            if not growing:
                self._forget_content(file_id, item_id)
            self._db.execute(
                "UPDATE files SET size = ?, inode = ?, mtime_ns = ?, verified = NULL, state = 'ok' WHERE id = ?",
                (*identity, file_id),
            )
        if root is not None:
            self.set_root(file_id, root)
        return file_id

    def _directory(self, path: bytes) -> int:
        row = self._db.first("SELECT id FROM directories WHERE path = ?", (path,))
        if row is not None:
            return int(row[0])
        return int(self._db.execute("INSERT INTO directories (path) VALUES (?)", (path,)).lastrowid or 0)

    def _forget_content(self, file_id: int, but_item: int) -> None:
        self._db.execute("DELETE FROM chunks WHERE file = ?", (file_id,))
        self._db.execute("UPDATE files SET root = NULL WHERE id = ?", (file_id,))
        self._db.execute(
            "UPDATE items SET state = 'changed' WHERE id <> ? AND id IN (SELECT item FROM item_files WHERE file = ?)",
            (but_item, file_id),
        )

    def attach(self, item_id: int, file_id: int) -> None:
        """Let a further item own a file that is already known: re-sharing without reading it."""
        self._db.execute("INSERT OR IGNORE INTO item_files VALUES (?, ?)", (item_id, file_id))

    def adopt(self, old: int, new: int) -> None:
        """Give all files of one owner to another. A share in progress owns its files as minus its job's number."""
        with self._db.transaction():
            self._db.execute("UPDATE OR IGNORE item_files SET item = ? WHERE item = ?", (new, old))
            self._db.execute("DELETE FROM item_files WHERE item = ?", (old,))

    def locate(self, cid: bytes) -> list[Located]:
        """All places (at most 16) of a chunk, most lately verified first; empty when there is none.

        `item_id` is one of the items that own the file. Files known to be changed or missing come last.
        """
        rows = self._db.all(
            f"SELECT {_PLACE}"
            " FROM (SELECT file, offset, length FROM chunks WHERE substr(cid, 5, 8) = substr(?1, 5, 8) AND cid = ?1"
            " LIMIT ?3) c JOIN files f ON f.id = c.file JOIN directories d ON d.id = f.directory"
            " ORDER BY f.state = 'ok' DESC, f.verified DESC LIMIT ?2",
            (cid, MAX_PLACES, _MAX_SORTED),
        )
        return [_located(row) for row in rows]

    def locate_many(self, cids: Sequence[bytes]) -> dict[bytes, list[Located]]:
        """`locate` for many chunks at a quarter of the price; those with no place are not in the answer."""
        found: dict[bytes, list[Located]] = {}
        for at in range(0, len(cids), _LOCATED):
            some = cids[at : at + _LOCATED]
            few = len(some) <= _FEW
            rows = [] if few else self._db.all(_MANY, (*some, *[b""] * (_LOCATED - len(some))))
            if few or len(rows) > _MAX_LOCATED or len({row[-1] for row in rows}) != len(rows):  # some have many places
                found.update((cid, places) for cid in some if (places := self.locate(cid)))
            else:
                found.update((row[-1], [_located(row[:-1])]) for row in rows)
        return found

    def has(self, cid: bytes) -> bool:
        sql = "SELECT 1 FROM chunks WHERE substr(cid, 5, 8) = substr(?1, 5, 8) AND cid = ?1 LIMIT 1"
        return self._db.first(sql, (cid,)) is not None

    def is_sound(self, cid: bytes) -> bool:
        """Whether some file with this chunk is, as far as is known, what it was."""
        sql = (
            "SELECT 1 FROM chunks c JOIN files f ON f.id = c.file"
            " WHERE substr(c.cid, 5, 8) = substr(?1, 5, 8) AND c.cid = ?1 AND f.state = 'ok' LIMIT 1"
        )
        return self._db.first(sql, (cid,)) is not None

    def set_verified(self, file_id: int, when: float) -> None:
        """A whole file was compared with its chunks' CIDs at `when`; 0.0 asks for it anew. Not synced by itself."""
        with self._db.relaxed():
            self._db.execute("UPDATE files SET verified = ? WHERE id = ?", (when, file_id))

    def mark_file(self, file_id: int, state: FileState) -> None:
        """Note what became of a file; the items that own it take the same state, "changed" for a rotten one."""
        with self._db.transaction():
            self._db.execute(
                "UPDATE files SET state = ?1, verified = CASE ?1 WHEN 'ok' THEN verified END WHERE id = ?2",
                (state, file_id),
            )
            if state != "ok":
                self._db.execute(
                    "UPDATE items SET state = ? WHERE id IN (SELECT item FROM item_files WHERE file = ?)",
                    ("changed" if state == "rotten" else state, file_id),
                )

    def files_of(self, item_id: int) -> Iterator[SourceFile]:
        """The files of an item by id, read in pages: the catalogue may be written between two of them."""
        last = 0
        while True:
            rows = self._db.all(
                _FILE + " JOIN item_files o ON o.file = f.id WHERE o.item = ? AND o.file > ? ORDER BY o.file LIMIT ?",
                (item_id, last, _PAGE),
            )
            yield from (_source_file(row) for row in rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def known(self, path: str) -> tuple[SourceFile, bytes] | None:
        """The file as it was when it was hashed, and its root CID (binary), when all of it is in the catalogue.

        A file whose size, inode and mtime_ns are still these needs no reading: `chunks_of(file.id)` has its chunks.
        """
        directory, name = split_path(path)
        row = self._db.first(_FILE + " WHERE d.path = ? AND f.name = ?", (directory, name))
        if row is None or row[7] is None or row[6] != "ok":
            return None
        return _source_file(row), row[7]

    def chunks_of(self, file_id: int) -> list[Chunk]:
        """(CIDv1 binary, offset, length) of a file's chunks in order."""
        sql = "SELECT cid, offset, length FROM chunks WHERE file = ? ORDER BY offset"
        return self._db.all(sql, (file_id,))

    def set_root(self, file_id: int, root: bytes) -> None:
        self._db.execute("UPDATE files SET root = ? WHERE id = ?", (root, file_id))

    def moved(self, file_id: int, file: SourceFile) -> None:
        """The file has another name now (`NAME.part` was renamed), or was touched without a change of content."""
        directory, name = split_path(file.path)
        with self._db.transaction():
            directory_id = self._directory(directory)
            there = self._db.first(
                "SELECT id FROM files WHERE directory = ? AND name = ? AND id <> ?", (directory_id, name, file_id)
            )
            if there is not None:  # what was at that name has been replaced
                self._forget_content(there[0], 0)
                self._db.execute("DELETE FROM item_files WHERE file = ?", there)
                self._db.execute("DELETE FROM files WHERE id = ?", there)
            self._db.execute(
                "UPDATE files SET directory = ?, name = ?, size = ?, inode = ?, mtime_ns = ? WHERE id = ?",
                (directory_id, name, file.size, _signed(file.inode), file.mtime_ns, file_id),
            )

    def under(self, directory: str, limit: int = 100_000) -> list[SourceFile]:
        """Known files at or below a directory, for a re-share of a whole tree with one statement."""
        prefix = path_to_blob(directory.rstrip("/"))
        rows = self._db.all(
            _FILE + " WHERE d.path = ?1 OR (d.path > ?2 AND d.path < ?3) LIMIT ?4",
            (prefix, prefix + b"/", prefix + b"0", limit),
        )
        return [_source_file(row) for row in rows]

    def knows_under(self, directory: str) -> bool:
        """Whether the catalogue has had files at or below a directory: when not, none of them needs a look-up."""
        prefix = path_to_blob(directory.rstrip("/"))
        sql = "SELECT 1 FROM directories WHERE path = ?1 OR (path > ?2 AND path < ?3) LIMIT 1"
        return self._db.first(sql, (prefix, prefix + b"/", prefix + b"0")) is not None

    def known_in(self, directory: str, names: Sequence[bytes]) -> dict[bytes, Known]:
        """What `known` says of files of one directory, by name: one statement. `names` are sorted, a few thousand.

        (id, size, inode, mtime_ns, root CID in binary) of each that is in the catalogue with all of its content.
        """
        if not names:
            return {}
        wanted = frozenset(names)
        rows = self._db.execute(
            "SELECT f.name, f.id, f.size, f.inode, f.mtime_ns, f.root FROM files f JOIN directories d"
            " ON d.id = f.directory WHERE d.path = ? AND f.name BETWEEN ? AND ? AND f.root NOTNULL AND f.state = 'ok'",
            (path_to_blob(directory.rstrip("/")), names[0], names[-1]),
        )
        return {row[0]: (row[1], row[2], _unsigned(row[3]), row[4], row[5]) for row in rows if row[0] in wanted}

    def attach_many(self, item_id: int, file_ids: Collection[int]) -> bool:
        """`attach` for many files. False, and perhaps only some attached, when one of them is not known any more."""
        if not file_ids:
            return True
        owned = {row[0] for row in self._db.all("SELECT file FROM item_files WHERE item = ?", (item_id,))}
        missing = [file_id for file_id in file_ids if file_id not in owned]
        if not missing:
            return True
        cursor = self._db.executemany(
            "INSERT OR IGNORE INTO item_files SELECT ?, id FROM files WHERE id = ?",
            [(item_id, file_id) for file_id in missing],
        )
        return cursor.rowcount == len(set(missing))

    def release(self, item_id: int, limit: int) -> int:
        """Take up to `limit` chunk rows or files of an item away; returns how many rows went. 0: nothing is left.

        A file with other owners stays and only leaves this item.
        """
        gone = 0
        with self._db.transaction():
            rows = self._db.all(
                "SELECT o.file, EXISTS (SELECT 1 FROM item_files x WHERE x.file = o.file AND x.item <> o.item)"
                " FROM item_files o WHERE o.item = ? LIMIT ?",
                (item_id, limit),
            )
            for file_id, shared in rows:
                if gone >= limit:
                    break
                if not shared:
                    gone += self._db.execute(
                        "DELETE FROM chunks WHERE file = ?1 AND offset IN"
                        " (SELECT offset FROM chunks WHERE file = ?1 LIMIT ?2)",
                        (file_id, limit - gone),
                    ).rowcount
                    if self._db.first("SELECT 1 FROM chunks WHERE file = ? LIMIT 1", (file_id,)):
                        break
                    self._drop_file(file_id)
                self._db.execute("DELETE FROM item_files WHERE item = ? AND file = ?", (item_id, file_id))
                gone += 1
        return gone

    def _drop_file(self, file_id: int) -> None:
        row = self._db.first("SELECT directory FROM files WHERE id = ?", (file_id,))
        self._db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        if row and self._db.first("SELECT 1 FROM files WHERE directory = ? LIMIT 1", row) is None:
            self._db.execute("DELETE FROM directories WHERE id = ?", row)


def _source_file(row: tuple[object, ...]) -> SourceFile:
    file_id, directory, name, size, inode, mtime_ns, state = row[:7]
    found = SourceFile(
        join_path(directory, name),  # type: ignore[arg-type]
        size,  # type: ignore[arg-type]
        _unsigned(inode),  # type: ignore[arg-type]
        mtime_ns,  # type: ignore[arg-type]
        file_id,  # type: ignore[arg-type]
    )
    return found if state == "ok" else replace(found, state=state)  # type: ignore[arg-type]


def _signed(inode: int) -> int:
    """Inodes are unsigned 64-bit numbers, SQLite's are signed."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode


def _unsigned(inode: int) -> int:
    return inode + (1 << 64) if inode < 0 else inode


def _located(row: tuple[Any, ...]) -> Located:
    return Located(
        join_path(row[0], row[1]), row[2], row[3], row[4], _unsigned(row[5]), row[6], row[7], row[8] or 0, *row[9:]
    )
