"""What running fetches have verified so far, so that the server can pass it on before they are done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.cid import CID


class Partial(Protocol):
    """A running fetch as the server sees it."""

    root: bytes  # CIDv1 binary
    size: int  # bytes of all leaves

    def leaves(self) -> Bitmap | None:
        """Which leaves of the DAG are here, depth first; None when it fetches a selection, whose order says nothing."""

    def locate(self, cid: bytes) -> tuple[str, int, int] | None:
        """Path, offset and length of a verified leaf."""


class Partials:
    """The running fetches by root CID. Given to the server and to every fetch."""

    def __init__(self) -> None:
        self._running: dict[bytes, list[Partial]] = {}

    @contextmanager
    def registered(self, partial: Partial) -> Iterator[None]:
        self._running.setdefault(partial.root, []).append(partial)
        try:
            yield
        finally:
            left = [one for one in self._running.get(partial.root, ()) if one is not partial]
            if left:
                self._running[partial.root] = left
            else:
                self._running.pop(partial.root, None)

    def of(self, root: bytes) -> Partial | None:
        """The running fetch of this root that has the most."""
        found = self._running.get(root, [])
        return max(found, key=_count, default=None)

    def read(self, cid: bytes) -> bytes | None:
        """A verified leaf's bytes, compared with its CID once more: others can write to NAME.part too."""
        for partials in self._running.values():
            for partial in partials:
                place = partial.locate(cid)
                data = _read(*place) if place is not None else None
                if data is not None and CID.from_binary(cid).matches(data):
                    return data
        return None


def _count(partial: Partial) -> int:
    leaves = partial.leaves()
    return 0 if leaves is None else leaves.count


def _read(path: str, offset: int, length: int) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.pread(file, length, offset)
    except OSError:
        return None
    finally:
        os.close(file)
