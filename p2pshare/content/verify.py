"""Reading again what is shared or fetched, and naming every file that is not what its CIDs say any more."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from p2pshare.content.files import Identity, open_regular
from p2pshare.content.hashing import BATCH_BYTES, BATCH_FILES, run_ordered
from p2pshare.store import Item, SourceFile, Store
from p2pshare_protocols.cid import CID, MAX_BLOCK, UnsupportedHash

_RUN: Final = 64  # chunks of a large file a hop

Chunk = tuple[bytes, int, int]  # CIDv1 binary, offset, length


@dataclass(frozen=True, slots=True)
class Damage:
    """A file of an item that does not hold what it should. `chunks` are the ones that are wrong.

    `rot`: nobody has written to it, as far as its size, inode and time tell.
    """

    path: str
    reason: str
    chunks: tuple[Chunk, ...]
    rot: bool = False


@dataclass(slots=True)
class _Read:
    file: SourceFile
    bad: list[Chunk]
    reason: str
    now: Identity | None
    last: bool
    size: int


class Verifier:
    """Reads in worker threads; one `run` at a time. `progress(bytes read, bytes in all)` is called often."""

    def __init__(
        self,
        store: Store,
        progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        limiter: trio.CapacityLimiter | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._report = progress
        self._limiter = limiter or trio.CapacityLimiter(2)
        self._now = wall_clock

    async def run(self, item: Item) -> list[Damage]:
        """Every damaged file of an item. Damaged ones are served no more; ones that were merely touched are again.

        Whole files are noted as verified. Raises LocalError when the catalogue cannot be written.
        """
        done = 0
        total = item.size
        found: dict[str, Damage] = {}
        open_files: dict[int, list[_Read]] = {}

        def take(reads: list[_Read]) -> None:
            nonlocal done
            for read in reads:
                done += read.size
                parts = open_files.setdefault(read.file.id, [])
                parts.append(read)
                if read.last:
                    damage = self._settle(read.file, open_files.pop(read.file.id))
                    if damage is not None:
                        found[damage.path] = damage
            self._report(min(done, total), total)

        await run_ordered(self._work(item.id), take, limiter=self._limiter)
        if not found and item.state != "ok":
            self._store.items.set_state(item.id, "ok")
        return list(found.values())

    def _work(self, item_id: int) -> Iterator[Callable[[], list[_Read]]]:
        batch: list[tuple[SourceFile, list[Chunk], bool]] = []
        size = 0
        for file in self._store.references.files_of(item_id):
            chunks = self._store.references.chunks_of(file.id)
            for at in range(0, max(1, len(chunks)), _RUN):
                run = chunks[at : at + _RUN]
                batch.append((file, run, at + _RUN >= len(chunks)))
                size += sum(length for _, _, length in run)
                if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
                    yield functools.partial(_read_all, batch)
                    batch, size = [], 0
        if batch:
            yield functools.partial(_read_all, batch)

    def _settle(self, file: SourceFile, parts: list[_Read]) -> Damage | None:
        references = self._store.references
        bad = tuple(chunk for part in parts for chunk in part.bad)
        reason = next((part.reason for part in parts if part.reason), "")
        if bad or reason:
            rot = not reason and parts[-1].now == Identity(file.size, file.inode, file.mtime_ns)
            references.mark_file(file.id, "rotten" if rot else "missing" if parts[-1].now is None else "changed")
            reason = reason or f"{len(bad)} of its blocks are not what they were"
            return Damage(file.path, reason, bad, rot)
        now = parts[-1].now
        if now is not None and now != Identity(file.size, file.inode, file.mtime_ns):
            references.moved(file.id, replace(file, size=now.size, inode=now.inode, mtime_ns=now.mtime_ns))
        if file.state != "ok":
            references.mark_file(file.id, "ok")
        references.set_verified(file.id, self._now())
        return None


def _read_all(batch: Sequence[tuple[SourceFile, list[Chunk], bool]]) -> list[_Read]:
    buffer = memoryview(bytearray(max((length for _, run, _ in batch for _, _, length in run), default=0)))
    return [_read(file, chunks, last, buffer) for file, chunks, last in batch]


def _read(file: SourceFile, chunks: list[Chunk], last: bool, buffer: memoryview) -> _Read:
    """In a worker thread. A file that is longer than it was is damaged too: its DAG does not say so much."""
    size = sum(length for _, _, length in chunks)
    read = _Read(file, [], "", None, last, size)
    try:
        descriptor, status = open_regular(file.path)
        try:
            for chunk in chunks:
                cid, offset, length = chunk
                view = buffer[:length]
                if os.preadv(descriptor, [view], offset) != length or not _is(cid, view):
                    read.bad.append(chunk)
            read.now = Identity.of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
    except OSError as error:
        read.bad = list(chunks)
        read.reason = f"it could not be read: {(error.strerror or str(error)).lower()}"
        return read
    if read.now != Identity.of(status):
        read.reason = "it changed while it was read"
    elif status.st_size != file.size:
        read.reason = f"it has {status.st_size} bytes instead of {file.size}"
    return read


def _is(cid: bytes, data: memoryview) -> bool:
    try:
        return len(data) <= MAX_BLOCK and CID.from_binary(cid).matches(data)
    except UnsupportedHash:
        return False
