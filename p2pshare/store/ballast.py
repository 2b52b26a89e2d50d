"""A file that holds room for the moment when the disk is full.

Deleting from a database writes first: with no block left on the disk, even `unshare` fails. The ballast is given up
at the first sign of a full disk, and made again when there is room for it several times over.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SIZE = 4 << 20
ROOM = 64 << 20  # bytes that must be free before the ballast is made again


class Ballast:
    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path = path
        self._size = size

    @property
    def present(self) -> bool:
        try:
            return self._path.stat().st_size == self._size
        except OSError:
            return False

    def release(self) -> bool:
        """Give the room up. True when there was some. Never raises: it is called when things go wrong."""
        try:
            size = self._path.stat().st_size
            self._path.unlink()
        except OSError:
            return False
        return size > 0

    def refill(self) -> bool:
        """Make it again when there is room; True when it is there afterwards."""
        if self.present:
            return True
        try:
            room = os.statvfs(self._path.parent)
            if room.f_bavail * room.f_frsize < ROOM:
                return False
            self._write()
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        return True

    def _write(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, self._size)
            else:  # macOS: bytes that no file system can leave out
                os.write(descriptor, os.urandom(self._size))
        finally:
            os.close(descriptor)
