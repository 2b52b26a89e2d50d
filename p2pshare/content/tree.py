"""Making and opening files below one directory descriptor: never through a symbolic link, never above it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

MAX_OPEN: Final = 64
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

SafePath = tuple[str, ...]


class Tree:
    """Owns `root` (a directory descriptor). Paths are safe names, () the root itself. Raises OSError."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._known: set[SafePath] = set()

    def close(self) -> None:
        os.close(self.root)

    def make_directories(self, path: SafePath) -> None:
        """Make a directory and those above it, where they are not there."""
        if not path or path in self._known:
            return
        self.make_directories(path[:-1])
        with self.opened(path[:-1]) as parent, contextlib.suppress(FileExistsError):
            os.mkdir(path[-1], 0o777, dir_fd=parent)
        self._known.add(path)

    @contextlib.contextmanager
    def opened(self, path: SafePath) -> Iterator[int]:
        """A descriptor of a directory, each step taken without following a link."""
        if not path:
            yield self.root
            return
        descriptor = self.root
        try:
            for component in path:
                below = os.open(component, _DIRECTORY, dir_fd=descriptor)
                if descriptor != self.root:
                    os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            if descriptor != self.root:
                os.close(descriptor)

    def open_file(self, path: SafePath, flags: int, mode: int = 0o666) -> int:
        """A descriptor of a file; `flags` as for os.open, O_NOFOLLOW and O_CLOEXEC added."""
        with self.opened(path[:-1]) as parent:
            return os.open(path[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=parent)


class Descriptors:
    """Open descriptors by key, at most `limit` idle ones kept. For several threads: one in use is never closed."""

    def __init__(self, limit: int = MAX_OPEN) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[int, list[int]] = OrderedDict()  # key: [descriptor, users]

    @contextlib.contextmanager
    def borrow(self, key: int, tree: Tree, path: SafePath, flags: int) -> Iterator[int]:
        with self._lock:
            held = self._open.get(key)
            if held is None:
                held = self._open[key] = [tree.open_file(path, flags), 0]
            self._open.move_to_end(key)
            held[1] += 1
        try:
            yield held[0]
        finally:
            with self._lock:
                held[1] -= 1
                self._trim()

    def adopt(self, key: int, descriptor: int) -> None:
        """Own a descriptor that was opened elsewhere, for the borrowers to come."""
        with self._lock:
            if key in self._open:
                os.close(descriptor)
                return
            self._open[key] = [descriptor, 0]
            self._trim()

    def _trim(self) -> None:
        if len(self._open) <= self._limit:
            return
        for key in [key for key, held in self._open.items() if held[1] == 0]:
            os.close(self._open.pop(key)[0])
            if len(self._open) <= self._limit:
                return

    def close(self) -> None:
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1][0])
