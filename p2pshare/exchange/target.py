"""Between pieces and files: verifies leaves and writes them where they belong. Its methods are for worker threads."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from p2pshare.content.destination import Destination
from p2pshare.exchange.layout import Layout
from p2pshare_protocols.cid import CID

SMALL: Final = 64 << 10  # bytes of a file that is made, written and closed in one go
_SHA256_RAW: Final = b"\x01\x55\x12\x20"


class Target:
    """The leaves of `layout` in the files of `destination`."""

    def __init__(self, destination: Destination, layout: Layout) -> None:
        self._destination = destination
        self._layout = layout
        self._made: set[int] = set()
        self._making = threading.Lock()

    def put(self, leaves: Sequence[tuple[int, memoryview]]) -> int | None:
        """Compare each leaf with its CID, then write it. Returns the first leaf that is wrong; it is not written.

        Raises LocalError when the disk fails.
        """
        layout = self._layout
        small: list[tuple[int, memoryview]] = []
        for leaf, data in leaves:
            if len(data) != layout.sizes[leaf] or not matches(layout.cids[leaf], data):
                self._destination.write_whole(small)
                return leaf
            file = layout.files[leaf]
            if len(data) <= SMALL and layout.is_whole(leaf):
                small.append((file, data))
                continue
            # The first write makes the file, and two threads may come to it at one time.
            offset = layout.offsets[leaf]
            inside = data[max(0, -offset) : layout.wholes[file] - offset]
            with nullcontext() if file in self._made else self._making:
                self._destination.write(file, max(0, offset), inside)
                self._made.add(file)
        self._destination.write_whole(small)
        return None

    def sync(self) -> None:
        self._destination.sync()

    def holds(self, piece: int) -> bool:
        """Whether all of a piece lies in its files already, written by a run that could not record it."""
        layout = self._layout
        for leaf in layout.leaves(piece):
            file, offset, size = layout.files[leaf], layout.offsets[leaf], layout.sizes[leaf]
            path = self._destination.path_of(file)
            if offset < 0 or offset + size > layout.wholes[file]:
                return False  # a part of a block cannot be compared
            if not _has_data(path, offset, size):
                return False
            data = self._destination.read(file, offset, size)
            if len(data) != size or not matches(layout.cids[leaf], data):
                return False
        return True

    def place(self, leaf: int) -> tuple[str, int, int]:
        """Path, offset and length of a leaf."""
        layout = self._layout
        return self._destination.path_of(layout.files[leaf]), layout.offsets[leaf], layout.sizes[leaf]


def matches(cid: bytes, data: bytes | memoryview) -> bool:
    """Whether a block is the one that the binary CID names."""
    if cid[:4] == _SHA256_RAW:
        return hashlib.sha256(data).digest() == cid[4:]
    return CID.from_binary(cid).matches(data)


def _has_data(path: str, offset: int, size: int) -> bool:
    """Whether a range is no hole. Preallocated room counts as a hole, so what was never written is not read."""
    seek_data = getattr(os, "SEEK_DATA", None)
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return seek_data is None or os.lseek(file, offset, seek_data) < offset + size
    except OSError:  # ENXIO: only a hole from here on
        return False
    finally:
        os.close(file)
