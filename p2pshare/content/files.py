"""Opening users' files without surprises, and telling whether one is still what it was."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from typing import Final, NamedTuple

# O_NONBLOCK: a FIFO that took a file's name must not hold us up. O_NOCTTY: nor may a terminal become ours.
OPEN_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
MAX_OPEN: Final = 64


class Identity(NamedTuple):
    """What must be the same for a file to count as unchanged. Its path may lead to another file meanwhile."""

    size: int
    inode: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_size, status.st_ino, status.st_mtime_ns)


class NotRegular(OSError):
    """The path leads to a directory, a device, a socket or a FIFO."""


def open_regular(path: str, *, follow: bool = True) -> tuple[int, os.stat_result]:
    """A descriptor for reading and its status. Raises OSError (NotRegular when it is no file)."""
    descriptor = os.open(path, OPEN_FLAGS if follow else OPEN_FLAGS | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegular(f"{path} is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


class OpenFiles:
    """The descriptors used last, by path; at most `limit` stay open. For one thread."""

    def __init__(self, limit: int = MAX_OPEN) -> None:
        self._limit = limit
        self._open: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def get(self, path: str, status: os.stat_result) -> int:
        """A descriptor of the file that `path` led to when `status` was taken. Raises OSError."""
        known = self._open.get(path)
        if known is not None:
            if known[1:] == (status.st_dev, status.st_ino):
                self._open.move_to_end(path)
                return known[0]
            os.close(self._open.pop(path)[0])
        descriptor, fresh = open_regular(path)
        self._open[path] = (descriptor, fresh.st_dev, fresh.st_ino)
        if len(self._open) > self._limit:
            _, (oldest, _, _) = self._open.popitem(last=False)
            os.close(oldest)
        return descriptor

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1][0])
