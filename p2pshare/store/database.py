"""One SQLite connection: durable nested transactions, and SQLite's errors mapped to ours in one place.

Durability: WAL with synchronous=FULL; a transaction that returned is on the disk. `relaxed` transactions (peers,
progress, counters) are atomic too, but a power cut may lose the newest of them; the next full one makes them durable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from p2pshare.errors import DiskFull, LocalError, Locked, NotFound, PermissionDenied
from p2pshare.store.ballast import Ballast

CACHE_KIB = 32 << 10
BUSY_SECONDS = 5.0

_DAMAGED = "move the file away and start again: the shared files themselves are untouched, and can be shared anew"


class Interrupted(LocalError):
    """A statement ended because `Database.interrupted` said so."""


class Database:
    """For one thread at a time. Statements outside of a transaction commit by themselves."""

    def __init__(self, path: Path, ballast: Ballast | None = None, *, read_only: bool = False) -> None:
        self.path = path
        self._ballast = ballast
        self._depth = 0
        self._tight = False  # the disk was full: keep the log short, so that deleting needs little room
        self._on_commit: list[Callable[[], None]] = []
        self._on_rollback: list[Callable[[], None]] = []
        self._connection = self._connect(read_only)

    def _connect(self, read_only: bool) -> sqlite3.Connection:
        with self._mapped():
            if read_only:
                uri = self.path.absolute().as_uri() + "?mode=ro"
                connection = sqlite3.connect(
                    uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
            else:
                self._create_private()
                connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                _configure(connection, read_only)
            except BaseException:
                connection.close()
                raise
            return connection

    def _create_private(self) -> None:
        """An empty file with mode 0600; SQLite gives its -wal and -shm files the same mode."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._connection.close()

    @property
    def in_transaction(self) -> bool:
        return self._depth > 0

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, values)
        except (sqlite3.Error, OverflowError) as error:
            raise self._map(error) from error

    def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> sqlite3.Cursor:
        """One durable transaction, also when there is none around it."""
        with self.transaction(), self._mapped():
            return self._connection.executemany(sql, rows)

    def all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            raise self._map(error) from error

    def rows(self, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Row after row as SQLite finds them."""
        with self._mapped():
            yield from self._connection.execute(sql, values)

    def first(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        except (sqlite3.Error, OverflowError) as error:
            raise self._map(error) from error
        return row

    def number(self, sql: str, values: Sequence[object] = ()) -> int:
        row = self.first(sql, values)
        return int(row[0] or 0) if row else 0

    def vacuum(self, pages: int) -> None:
        """Give up to `pages` unused pages back to the file system. Not inside a transaction."""
        with self._mapped():  # a script, because `execute` makes one step, and a step is one page
            self._connection.executescript(f"PRAGMA incremental_vacuum({pages})")

    def checkpoint(self) -> None:
        """Move the log into the file and give its room back, as far as that is possible now."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def at_ease(self) -> None:
        """There is room on the disk again."""
        self._tight = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is one durable transaction; inner ones are savepoints of the outermost.

        Leaving by an exception undoes what was done inside, and only that. Do not await inside: another task's
        statements would become part of it.
        """
        if self._depth:
            yield from self._savepoint()
            return
        if self._tight:
            self.checkpoint()
        self.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self._depth = 0
            self._undo("ROLLBACK")
            self._finish(self._on_rollback)
            raise
        self._depth = 0
        self._finish(self._on_commit)

    def _savepoint(self) -> Iterator[None]:
        name = f"depth_{self._depth}"
        promised = len(self._on_commit)
        self.execute(f"SAVEPOINT {name}")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._undo(f"ROLLBACK TO {name}")
            self._undo(f"RELEASE {name}")
            del self._on_commit[promised:]
            for hook in self._on_rollback:
                hook()
            raise
        else:
            self.execute(f"RELEASE {name}")
        finally:
            self._depth -= 1

    @contextlib.contextmanager
    def relaxed(self) -> Iterator[None]:
        """A transaction that is not synced to the disk by itself; inside of another one, a part of that."""
        if self._depth:
            with self.transaction():
                yield
            return
        self.execute("PRAGMA synchronous=NORMAL")
        try:
            with self.transaction():
                yield
        finally:
            self.execute("PRAGMA synchronous=FULL")

    def _undo(self, sql: str) -> None:
        """SQLite has already undone everything by itself after some errors (a full disk, an I/O error)."""
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute(sql)

    def _finish(self, run: list[Callable[[], None]]) -> None:
        hooks = run.copy()
        self._on_commit.clear()
        self._on_rollback.clear()
        for hook in hooks:
            hook()

    def after_commit(self, hook: Callable[[], None]) -> None:
        """Call `hook` once the present transaction is durable, or now when there is none."""
        if self._depth:
            self._on_commit.append(hook)
        else:
            hook()

    def after_rollback(self, hook: Callable[[], None]) -> None:
        """Call `hook` when the present transaction, or a savepoint in it, is undone; perhaps more than once."""
        if self._depth:
            self._on_rollback.append(hook)

    @contextlib.contextmanager
    def interrupted(self, over: Callable[[], bool], steps: int) -> Iterator[None]:
        """Statements inside end with Interrupted once `over()` is true.

        It is asked every `steps` instructions of SQLite's machine (sqlite.org/c3ref/progress_handler.html).
        """
        self._connection.set_progress_handler(over, steps)
        try:
            yield
        finally:
            self._connection.set_progress_handler(None, 0)

    def function(self, name: str, call: Callable[..., str]) -> None:
        """`call` as an SQL function of this connection."""
        self._connection.create_function(name, -1, call, deterministic=True)

    def _no_room(self) -> bool:
        try:
            room = os.statvfs(self.path.parent)
        except OSError:
            return False
        return room.f_bavail * room.f_frsize < _NO_ROOM

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError, OSError) as error:
            raise self._map(error) from error

    def _map(self, error: Exception) -> LocalError:
        """SQLite's result codes (sqlite.org/rescode.html) as our kinds; a full disk gives the ballast up."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in _FULL_ERRNOS
        if full or (code == sqlite3.SQLITE_IOERR and self._no_room()):
            self._tight = True
            freed = self._ballast is not None and self._ballast.release()
            hint = "remove something: `p2pshare unshare` works now" if freed else "free some room on this disk"
            return DiskFull(f"the disk that holds {self.path.name} is full", hint=hint)
        if code == sqlite3.SQLITE_INTERRUPT:
            return Interrupted(f"the search of {self.path.name} took too long")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return LocalError(f"{self.path.name} is damaged: {error}", hint=_DAMAGED)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Locked(f"another process holds {self.path.name}")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN):
            return PermissionDenied(f"{self.path.name} cannot be opened or written: {error}")
        if isinstance(error, FileNotFoundError):
            return NotFound(f"{self.path.parent} is not there")
        if isinstance(error, OSError):
            return PermissionDenied(f"{self.path.name} cannot be opened: {error.strerror}")
        if isinstance(error, OverflowError):
            return LocalError("a number is too big for the catalogue", kind="usage")
        return LocalError(f"{self.path.name} could not be used: {error}")


_NO_ROOM = 1 << 20  # bytes; SQLite says "disk I/O error" when its -shm file cannot grow (SQLITE_IOERR_SHMSIZE)
_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)


def _configure(connection: sqlite3.Connection, read_only: bool) -> None:
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    if read_only:
        connection.execute("PRAGMA query_only=ON")
        return
    if not connection.execute("PRAGMA page_count").fetchone()[0]:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=FAST")  # ON, as Debian builds it, writes out what it deletes
    connection.execute("PRAGMA wal_autocheckpoint=1000")  # pages: no more than the ballast has room for
    connection.execute(f"PRAGMA journal_size_limit={64 << 20}")
