"""Reading blocks by CID: stored ones, and chunks where they lie in users' files, never a byte of a changed file."""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import trio

from p2pshare.content.files import Identity, NotRegular, OpenFiles, open_regular
from p2pshare.errors import LocalError, NotFound, SourceChanged
from p2pshare.store import Item, ItemState, Located, SourceFile, Store
from p2pshare_protocols.cid import CID, UnsupportedHash

DAY: Final = 86_400.0  # seconds a verification holds (DESIGN section 3)
RACY: Final = 2.0  # seconds; a write this close to the verification could have left the time stamp as it was
MAX_REMEMBERED: Final = 131_072  # chunks verified lately
INLINE: Final = 1 << 20  # bytes read in the trio thread when they are in the page cache: about 0.1 ms
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


@dataclass(slots=True)
class _Pending:
    """A chunk that has to be read or hashed in a worker thread."""

    cid: CID
    place: Located
    verify: bool


class BlockReader:
    """Verified reading. For the trio thread; what may wait for a disk or takes time to hash goes to a worker thread.

    A chunk is compared with its CID unless that was done within a day and its file has not changed since. Size, inode
    and mtime are compared on every read, before and (in a worker thread) after the bytes were read.
    """

    def __init__(
        self, store: Store, *, wall_clock: Callable[[], float] = time.time, limiter: trio.CapacityLimiter | None = None
    ) -> None:
        self._store = store
        self._now = wall_clock
        self._limiter = limiter or trio.CapacityLimiter(4)
        self._files = OpenFiles()
        self._verified: OrderedDict[tuple[int, int], tuple[Identity, float]] = OrderedDict()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; reading goes on to work."""
        self._files.close()

    async def read(self, cid: CID) -> bytes:
        """The block. Not always a checkpoint. Raises NotFound, or SourceChanged when every file with it changed."""
        found = self._find(cid.v1)
        if isinstance(found, list):
            found = await self._in_thread(cid.v1, found)
        if isinstance(found, LocalError):
            raise found
        return found

    async def read_many(self, cids: Sequence[CID]) -> list[bytes | LocalError]:
        """Many blocks, with one worker-thread hop for all that need one. An error stands in its block's place."""
        found = [self._find(cid.v1) for cid in cids]
        late = [(i, places) for i, places in enumerate(found) if isinstance(places, list)]
        if late:
            firsts = [places[0] for _, places in late]
            read = await trio.to_thread.run_sync(_read_all, firsts, limiter=self._limiter)
            for (i, places), (pending, result) in zip(late, zip(firsts, read, strict=True), strict=True):
                settled = self._settle(pending, result)
                if isinstance(settled, LocalError) and len(places) > 1:
                    settled = await self._in_thread(cids[i].v1, places[1:])
                found[i] = settled
        return [block if not isinstance(block, list) else NotFound("no such block") for block in found]

    async def recheck(self, item: Item | int) -> ItemState:
        """Compare each file of an item with what it was (one stat a file); note what changed, and say the worst."""
        item_id = item if isinstance(item, int) else item.id
        files = list(self._store.references.files_of(item_id))
        states = await trio.to_thread.run_sync(_states, files, limiter=self._limiter)
        worst: ItemState = "ok"
        for file, state in zip(files, states, strict=True):
            if state != file.state:
                self._store.references.mark_file(file.id, state)
            if state == "missing" or (state == "changed" and worst == "ok"):
                worst = state
        if worst == "ok" and files and self._store.items.get(item_id).state != "ok":
            self._store.items.set_state(item_id, "ok")
        return worst

    def suspect(self, cid: CID) -> None:
        """Somebody says that this block was served wrong: the next read compares it with its CID whatever is known."""
        for place in self._store.references.locate(cid.v1.binary):
            self._verified.pop((place.file_id, place.offset), None)
            if place.verified is not None:
                self._store.references.set_verified(place.file_id, 0.0)

    def _find(self, cid: CID) -> bytes | LocalError | list[_Pending]:
        """The block, an error, or the places that a worker thread has to try."""
        if (inline := cid.inline) is not None:
            return inline
        stored = self._store.blocks.get(cid.binary)
        if stored is not None:
            if cid.matches(stored):
                return stored
            self._store.blocks.remove([cid.binary])
        places = [place for place in self._store.references.locate(cid.binary) if place.transform == "identity"]
        if not places:
            return NotFound(f"there is no block {cid} here")
        late: list[_Pending] = []
        problem: LocalError | None = None
        for place in places:
            quick = self._try(cid, place)
            if isinstance(quick, bytes):
                return quick
            if isinstance(quick, LocalError):
                problem = quick
            else:
                late.append(quick)
        return late or problem or NotFound(f"there is no block {cid} here")

    def _try(self, cid: CID, place: Located) -> bytes | LocalError | _Pending:
        try:
            status = os.stat(place.path)
        except OSError as error:
            return self._lost(place, error)
        expected = Identity(place.size, place.inode, place.mtime_ns)
        if Identity.of(status) != expected or not stat.S_ISREG(status.st_mode):
            return self._changed(place)
        verify = not self._is_verified(place, expected)
        if verify and place.length > 16_384:  # hashing more than this takes longer than a hop is worth
            return _Pending(cid, place, verify)
        try:
            descriptor = self._files.get(place.path, status)
            if not _is_cached(descriptor, place):
                return _Pending(cid, place, verify)
            data = os.pread(descriptor, place.length, place.offset)
            after = os.fstat(descriptor)
        except OSError as error:
            return self._lost(place, error)
        if Identity.of(after) != expected or len(data) != place.length:
            return self._changed(place)
        if verify:
            if not _matches(cid, data):
                return self._changed(place)
            self._remember(place, expected)
        return data

    async def _in_thread(self, cid: CID, places: list[_Pending]) -> bytes | LocalError:
        problem: LocalError = NotFound(f"there is no block {cid} here")
        for pending in places:
            [result] = await trio.to_thread.run_sync(_read_all, [pending], limiter=self._limiter)
            settled = self._settle(pending, result)
            if isinstance(settled, bytes):
                return settled
            problem = settled
        return problem

    def _settle(self, pending: _Pending, result: bytes | OSError | None) -> bytes | LocalError:
        """Take in what the thread found: bytes, an error, or None for a changed file."""
        place = pending.place
        if result is None:
            return self._changed(place)
        if isinstance(result, OSError):
            return self._lost(place, result)
        if pending.verify:
            self._remember(place, Identity(place.size, place.inode, place.mtime_ns))
        return result

    def _is_verified(self, place: Located, identity: Identity) -> bool:
        now = self._now()
        when = place.verified
        seen = self._verified.get((place.file_id, place.offset))
        if seen is not None and seen[0] == identity:
            when = max(seen[1], when or 0.0)
        return when is not None and now - DAY < when <= now and when - identity.mtime_ns / 1e9 >= RACY

    def _remember(self, place: Located, identity: Identity) -> None:
        self._verified[(place.file_id, place.offset)] = (identity, self._now())
        self._verified.move_to_end((place.file_id, place.offset))
        if len(self._verified) > MAX_REMEMBERED:
            self._verified.popitem(last=False)

    def _changed(self, place: Located) -> LocalError:
        self._store.references.mark_file(place.file_id, "changed")
        return SourceChanged(
            f"{place.path!r} is not what it was when it was shared",
            hint="share it again, or put the old content back",
        )

    def _lost(self, place: Located, error: OSError) -> LocalError:
        """The file is not there. One that may merely not be read (permissions, I/O errors) is not marked."""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            self._store.references.mark_file(place.file_id, "missing")
            return NotFound(f"{place.path!r} is not there any more", hint="put it back, or unshare it")
        if isinstance(error, NotRegular):
            return self._changed(place)
        return NotFound(f"{place.path!r} could not be read: {error.strerror or error}")


def _is_cached(descriptor: int, place: Located) -> bool:
    """Whether the chunk seems to be in the page cache: one byte at four places, read without waiting."""
    if place.length > INLINE or not _NOWAIT or not place.length:
        return not place.length
    probe = bytearray(1)
    last = place.length - 1
    try:
        for at in {0, last // 3, 2 * last // 3, last}:
            if os.preadv(descriptor, [probe], place.offset + at, _NOWAIT) != 1:
                return False
    except OSError:  # EAGAIN: it would have to wait; EOPNOTSUPP: this file system cannot tell
        return False
    return True


def _matches(cid: CID, data: bytes) -> bool:
    try:
        return cid.matches(data)
    except UnsupportedHash:
        return False


def _read_all(pendings: Sequence[_Pending]) -> list[bytes | OSError | None]:
    """In a worker thread. None: the file changed."""
    return [_read_one(pending) for pending in pendings]


def _read_one(pending: _Pending) -> bytes | OSError | None:
    place = pending.place
    expected = Identity(place.size, place.inode, place.mtime_ns)
    try:
        descriptor, before = open_regular(place.path)
        try:
            if Identity.of(before) != expected:
                return None
            data = _read_fully(descriptor, place.length, place.offset)
            if len(data) != place.length or Identity.of(os.fstat(descriptor)) != expected:
                return None
        finally:
            os.close(descriptor)
    except OSError as error:
        return error
    return data if not pending.verify or _matches(pending.cid, data) else None


def _read_fully(descriptor: int, length: int, offset: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    while 0 < len(data) < length:  # a signal, or a file system that reads in pieces
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _states(files: Sequence[SourceFile]) -> list[ItemState]:
    return [_state(file) for file in files]


def _state(file: SourceFile) -> ItemState:
    try:
        status = os.stat(file.path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return file.state
    same = Identity.of(status) == Identity(file.size, file.inode, file.mtime_ns) and stat.S_ISREG(status.st_mode)
    return "ok" if same else "changed"
