"""The catalogue: one SQLite file with everything that a node must not forget, and the parts that know its tables."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from p2pshare.errors import from_os_error
from p2pshare.store.ballast import Ballast
from p2pshare.store.blocks import Blocks
from p2pshare.store.cache import Cache
from p2pshare.store.database import Database
from p2pshare.store.events import Events
from p2pshare.store.found import search
from p2pshare.store.items import Items
from p2pshare.store.jobs import Jobs
from p2pshare.store.model import FoundRows
from p2pshare.store.own_postings import OwnPostings
from p2pshare.store.peers import Peers
from p2pshare.store.postings import Postings
from p2pshare.store.providers import Providers
from p2pshare.store.quota import Quota
from p2pshare.store.references import References
from p2pshare.store.schema import migrate
from p2pshare.store.values import Values
from p2pshare.store.watches import Watches
from p2pshare_protocols.query_model import Query

CATALOGUE = "catalogue.sqlite"
BALLAST = "ballast"
SEARCH_SECONDS = 2.0  # filters alone over 1,000,000 names take 1 s
COPIES = "copies"  # where kept copies lie, below the catalogue's directory
UNUSED = 86_400.0  # seconds after which what is cached and was not used is dropped


class Reader:
    """References, blocks and search over a read-only connection of its own, for one worker thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, read_only=True)
        self.references = References(self._db)
        self.blocks = Blocks(self._db, self.references)

    def search(
        self, query: Query, limit: int = 100, *, seconds: float = SEARCH_SECONDS, stop: threading.Event | None = None
    ) -> FoundRows:
        """Items, and files inside of items, that the query's words, phrases and filters let through, best first.

        Ends after `seconds` or when `stop` is set, with what was found. `query.publisher` is not looked at: all of
        this is ours.
        """
        return search(self._db, query, limit, seconds=seconds, stop=stop or threading.Event())

    def close(self) -> None:
        self._db.close()


class Store:
    """Made by `open_store`. For the trio thread only; statements are short and run inline. Raises LocalError only."""

    def __init__(self, directory: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self._now = wall_clock
        _make_private(directory)
        self.ballast = Ballast(directory / BALLAST)
        self._db = Database(directory / CATALOGUE, self.ballast)
        try:
            migrate(self._db)
            self.references = References(self._db)
            self.cache = Cache(self._db, wall_clock)
            self.blocks = Blocks(self._db, self.references, self.cache)
            self.items = Items(self._db, self.references, self.blocks, wall_clock)
            self.quota = Quota(self.items, self.cache, str(directory / COPIES))
            self.jobs = Jobs(self._db, wall_clock)
            self.events = Events(self._db, wall_clock)
            self.peers = Peers(self._db)
            self.providers = Providers(self._db)
            self.values = Values(self._db)
            self.postings = Postings(self._db)
            self.own_postings = OwnPostings(self._db)
            self.watches = Watches(self._db, wall_clock)
        except BaseException:
            self._db.close()
            raise
        self.ballast.refill()

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside is one durable transaction; may be nested. Never await inside."""
        return self._db.transaction()

    def relaxed(self) -> AbstractContextManager[None]:
        """Like `transaction`, but a power cut may lose it: for what is cheap to lose and often written."""
        return self._db.relaxed()

    def get_meta(self, key: str) -> str | None:
        row = self._db.first("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def reader(self) -> Reader:
        """A further, read-only connection that a worker thread may use. Close it."""
        return Reader(self._db.path)

    def maintain(self) -> None:
        """Call every few minutes: writes counters, ends removals that were cut off, drops what is cached and not used,
        makes the ballast again."""
        self.items.flush()
        self.items.finish_removals()
        if self.quota.keep() + self.cache.drop_unused(self._now() - UNUSED):
            self.shrink()
        if self.ballast.refill():
            self._db.at_ease()

    def unfinished(self) -> set[int]:
        """The jobs that own files or blocks as minus their number."""
        sql = "SELECT item FROM item_files WHERE item < 0 UNION SELECT item FROM item_blocks WHERE item < 0"
        return {-row[0] for row in self._db.all(sql)}

    def shrink(self, pages: int = 10_000) -> int:
        """Give up to `pages` unused pages (4 KiB) back to the file system; returns how many bytes it gave."""
        before = self.size()
        self._db.vacuum(int(pages))
        return before - self.size()

    def size(self) -> int:
        """Bytes of the catalogue, without its write-ahead log."""
        return self._db.number("PRAGMA page_count") * self._db.number("PRAGMA page_size")

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file, for `doctor`; empty when all is well. Reads all of it."""
        return [row[0] for row in self._db.all("PRAGMA quick_check(20)") if row[0] != "ok"]

    def close(self) -> None:
        try:
            self.items.flush()
        finally:
            self._db.close()


@contextlib.contextmanager
def open_store(directory: Path, *, wall_clock: Callable[[], float] = time.time) -> Iterator[Store]:
    """The catalogue in `directory` (made with mode 0700 when it is not there). `wall_clock` gives unix seconds.

    Raises PermissionDenied, DiskFull, Locked, LocalError kind "version-mismatch" when a newer version made it, and
    LocalError when it is damaged.
    """
    store = Store(directory, wall_clock=wall_clock)
    try:
        yield store
    finally:
        store.close()


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            os.chmod(directory, 0o700)
    except OSError as error:
        raise from_os_error(error, f"make {directory}") from error
