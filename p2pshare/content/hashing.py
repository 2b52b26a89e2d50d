"""Chunking and hashing in worker threads: small files many to a hop, large ones in runs of chunks."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import trio

from p2pshare.content.files import OPEN_FLAGS, Identity, open_regular
from p2pshare.content.walk import FoundFile
from p2pshare_protocols.builder import Profile
from p2pshare_protocols.cid import BLAKE3, CID, RAW, SHA2_256

WORKERS: Final = 2
BATCH_FILES: Final = 64  # small files a hop
BATCH_BYTES: Final = 16 << 20
RUN_CHUNKS: Final = 16  # chunks of a large file a hop: about 10 ms of hashing
CHANGED: Final = "it changed while it was read"

T = TypeVar("T")
Broken = Callable[[FoundFile], bool]


@dataclass(slots=True)
class Hashed:
    """The next chunks of a file: their CIDs in order. `problem` says why there are none; `last`: the file ends."""

    file: FoundFile
    cids: list[CID] = field(default_factory=list)
    first: int = 0  # number of the first chunk
    last: bool = True
    problem: str = ""


class Hasher:
    """Makes the work for the threads. One buffer a worker is kept and used again."""

    def __init__(self, profile: Profile) -> None:
        self._chunk = profile.chunk_size
        self._code = SHA2_256 if profile.hash == "sha256" else BLAKE3
        self._new: Callable[..., Any] = hashlib.sha256
        if self._code == BLAKE3:
            from blake3 import blake3  # late: few shares ask for it

            self._new = blake3
        self._buffers: list[bytearray] = []

    def work(self, files: Iterable[FoundFile], broken: Broken) -> Iterator[Callable[[], list[Hashed]]]:
        """Pieces of work in the order of the files. A large file that is `broken` meanwhile is not read on."""
        batch: list[FoundFile] = []
        size = 0
        for file in files:
            if file.identity.size > self._chunk:
                if batch:
                    yield _bound(self._hash_small, batch)
                    batch, size = [], 0
                yield from self._runs(file, broken)
                continue
            batch.append(file)
            size += file.identity.size
            if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
                yield _bound(self._hash_small, batch)
                batch, size = [], 0
        if batch:
            yield _bound(self._hash_small, batch)

    def _runs(self, file: FoundFile, broken: Broken) -> Iterator[Callable[[], list[Hashed]]]:
        chunks = -(-file.identity.size // self._chunk)
        for first in range(0, chunks, RUN_CHUNKS):
            if broken(file):
                return
            count = min(RUN_CHUNKS, chunks - first)
            yield _bound_run(self._hash_run, file, first, count, first + count == chunks)

    def _cid(self, data: memoryview | bytes) -> CID:
        return CID.of(RAW, data) if self._code == SHA2_256 else CID.of(RAW, data, "blake3")

    def _hash_small(self, files: Sequence[FoundFile]) -> list[Hashed]:
        return [self._hash_one(file) for file in files]

    def _hash_one(self, file: FoundFile) -> Hashed:
        """One look at its status, behind the reading, says also what it was before: what it was when it was found."""
        identity = file.identity
        try:
            descriptor = os.open(file.path, OPEN_FLAGS)
            try:
                data = os.read(descriptor, identity.size + 1)
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            return Hashed(file, problem=f"could not be read: {(error.strerror or str(error)).lower()}")
        if len(data) != identity.size or Identity.of(status) != identity or not stat.S_ISREG(status.st_mode):
            return Hashed(file, problem=CHANGED)
        return Hashed(file, [self._cid(data)])

    def _hash_run(self, file: FoundFile, first: int, count: int, last: bool) -> Hashed:
        buffer = self._buffers.pop() if self._buffers else bytearray(self._chunk)
        result = Hashed(file, [], first, last)
        try:
            descriptor, status = open_regular(file.path)
            try:
                if Identity.of(status) != file.identity:
                    return Hashed(file, problem=CHANGED)
                _read_ahead(descriptor, (first + count) * self._chunk, RUN_CHUNKS * WORKERS * self._chunk)
                for number in range(first, first + count):
                    offset = number * self._chunk
                    view = memoryview(buffer)[: min(self._chunk, file.identity.size - offset)]
                    if not _read_into(descriptor, view, offset):
                        return Hashed(file, problem=CHANGED)
                    result.cids.append(self._cid(view))
                if Identity.of(os.fstat(descriptor)) != file.identity:
                    return Hashed(file, problem=CHANGED)
            finally:
                os.close(descriptor)
        except OSError as error:
            return Hashed(file, problem=f"could not be read: {(error.strerror or str(error)).lower()}")
        finally:
            self._buffers.append(buffer)
        return result


async def run_ordered(
    work: Iterable[Callable[[], T]],
    consume: Callable[[T], None],
    *,
    limiter: trio.CapacityLimiter,
    width: int = WORKERS,
) -> None:
    """Run pieces of work in `width` worker threads and consume the results here in the order of the work.

    Raises what a piece of work or `consume` raises. Cancellation waits for the pieces that are under way.
    """
    numbered = enumerate(work)
    results: dict[int, T] = {}
    consumed = 0
    progress = trio.Event()

    async def worker() -> None:
        nonlocal consumed, progress
        for number, piece in numbered:
            while number - consumed >= 4 * width:
                await progress.wait()
            results[number] = await trio.to_thread.run_sync(piece, limiter=limiter)
            while consumed in results:
                consume(results.pop(consumed))
                consumed += 1
            progress.set()
            progress = trio.Event()

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(width):
                nursery.start_soon(worker)
    except BaseExceptionGroup as group:  # one exception is what callers know how to take
        cancelled, errors = group.split(trio.Cancelled)
        found = errors or cancelled
        if errors is None or len(errors.exceptions) == 1:
            assert found is not None
            raise found.exceptions[0] from None
        raise


def _bound(call: Callable[[Sequence[FoundFile]], list[Hashed]], batch: list[FoundFile]) -> Callable[[], list[Hashed]]:
    return lambda: call(batch)


def _bound_run(
    call: Callable[[FoundFile, int, int, bool], Hashed], file: FoundFile, first: int, count: int, last: bool
) -> Callable[[], list[Hashed]]:
    return lambda: [call(file, first, count, last)]


def _read_into(descriptor: int, view: memoryview, offset: int) -> bool:
    done = 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if count == 0:
            return False
        done += count
    return True


def _read_ahead(descriptor: int, offset: int, length: int) -> None:
    """Ask the kernel to fetch what the runs after this one will read."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is not None:
        advise(descriptor, offset, length, os.POSIX_FADV_WILLNEED)
