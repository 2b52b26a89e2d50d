"""`storage.quota`: kept copies and what is cached have so many bytes together, at any moment.

Copies are a person's and stay; the cache makes way for them. Files in place and finished fetches do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from p2pshare.errors import QuotaExceeded
from p2pshare.store.cache import Cache
from p2pshare.store.items import Items


class Quota:
    """`limit`: bytes; 0 is none. `copies`: the directory under which kept copies lie."""

    def __init__(self, items: Items, cache: Cache, copies: str) -> None:
        self._items = items
        self._cache = cache
        self._copies = copies
        self._reserved = 0
        self._limit = 0
        cache.room = self._room

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self.keep()

    def keep(self) -> int:
        """Drop what is cached and has no room any more; returns how many blocks."""
        room = self._room()
        return 0 if room is None else self._cache.shrink(room)

    def _room(self) -> int | None:
        return None if not self._limit else max(0, self._limit - self.copied() - self._reserved)

    def copied(self) -> int:
        """Bytes of the kept copies."""
        return self._items.size_under(self._copies)

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Room for a copy that is being made, until it is an item. Raises QuotaExceeded when there is none."""
        kept = self.copied() + self._reserved
        if self._limit and kept + size > self._limit:
            raise QuotaExceeded(
                f"a copy of {size} bytes has no room: {kept} of {self._limit} bytes are kept already",
                hint="unshare some copies, raise storage.quota, or share it in place (without --copy)",
            )
        self._reserved += size
        try:
            self.keep()
            yield
        finally:
            self._reserved -= size
