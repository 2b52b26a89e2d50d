"""Reading blocks by CID: stored ones, and chunks where they lie in users' files, never a byte of a changed file."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import trio

from p2pshare.content.files import OPEN_FLAGS, Identity, NotRegular, OpenFiles, open_regular
from p2pshare.content.syscalls import memory_devices
from p2pshare.errors import LocalError, NotFound, SourceChanged
from p2pshare.store import FileState, Item, ItemState, Located, SourceFile, Store
from p2pshare_protocols.cid import CID, MAX_BLOCK, RAW, UnsupportedHash

DAY: Final = 86_400.0  # seconds a verification holds (DESIGN section 3)
RACY: Final = 0.1  # seconds; a write this close to the verification could have left the time stamp as it was
RACY_COARSE: Final = 2.0  # the same where time stamps are of whole seconds (FAT: of two)
MAX_REMEMBERED: Final = 131_072  # chunks verified lately
SMALL: Final = 16_384  # bytes that are hashed sooner than it is looked up whether they need be
INLINE: Final = 1 << 20  # bytes read in the trio thread when they are in the page cache: about 0.1 ms
_SHA256_RAW: Final = b"\x01\x55\x12\x20"
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_TRUSTED_SINCE: Final = "verifications count from"  # the catalogue's note of when rot was found last
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    """A chunk that has to be read or hashed in a worker thread."""

    cid: CID
    place: Located
    verify: bool
    into: memoryview


class BlockReader:
    """Verified reading. For the trio thread; what may wait for a disk or takes time to hash goes to a worker thread.

    A chunk is compared with its CID unless that was done within a day and its file has not changed since. Size, inode
    and mtime are compared on every read, before and (in a worker thread) after the bytes were read. A file that rotted
    (other bytes, though nobody wrote to it) speaks against its disk: nothing that was verified before counts any more.
    """

    def __init__(
        self, store: Store, *, wall_clock: Callable[[], float] = time.time, limiter: trio.CapacityLimiter | None = None
    ) -> None:
        self._store = store
        self._now = wall_clock
        self._limiter = limiter or trio.CapacityLimiter(4)
        self._files = OpenFiles()
        self._verified: OrderedDict[tuple[int, int], tuple[Identity, float]] = OrderedDict()
        self._in_memory = memory_devices()
        self._buffers: list[memoryview] = []
        self._trusted_since = float(store.get_meta(_TRUSTED_SINCE) or 0.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; reading goes on to work."""
        self._files.close()

    async def read(self, cid: CID) -> bytes:
        """The block. Not always a checkpoint. Raises NotFound, or SourceChanged when every file with it changed."""
        if (own := self._stored(cid.v1)) is not None:
            return own
        buffer = self._buffers.pop() if self._buffers else memoryview(bytearray(MAX_BLOCK))
        [size] = await self.read_into([cid], buffer)
        if isinstance(size, LocalError):
            raise size
        data = bytes(buffer[:size])
        if not self._buffers:
            self._buffers.append(buffer)
        return data

    async def read_into(self, cids: Sequence[CID], buffer: memoryview) -> list[int | LocalError]:
        """Blocks one behind the other into `buffer`: the sizes of as many as fit, with one worker-thread hop at most.

        It stops at a block that cannot be had; its error (NotFound, SourceChanged) is then the last of the list.
        Empty: the first does not fit. Not always a checkpoint.
        """
        sizes: list[int | LocalError] = []
        late: list[tuple[int, list[_Pending]]] = []
        at = 0
        known = self._locate(cids)
        for cid in cids:
            found = self._find(cid.v1, buffer[at:], known)
            if found is None:
                break
            if isinstance(found, list):
                late.append((len(sizes), found))
                found = found[0].place.length
            sizes.append(found)
            if isinstance(found, LocalError):
                break
            at += found
        if late:
            firsts = [pendings[0] for _, pendings in late]
            results = await trio.to_thread.run_sync(_read_all, firsts, limiter=self._limiter)
            for (number, pendings), result in zip(late, results, strict=True):
                settled = self._settle(pendings[0], result)
                if isinstance(settled, LocalError):
                    again = await self._in_thread(pendings[1:]) if len(pendings) > 1 else settled
                    return [*sizes[:number], again]
        return sizes

    async def recheck(self, item: Item | int) -> ItemState:
        """Compare each file of an item with what it was (one stat a file); note what changed, and say the worst."""
        item_id = item if isinstance(item, int) else item.id
        files = list(self._store.references.files_of(item_id))
        states = await trio.to_thread.run_sync(_states, files, limiter=self._limiter)
        worst: ItemState = "ok"
        for file, state in zip(files, states, strict=True):
            if state != file.state:
                self._store.references.mark_file(file.id, state)
            if state == "missing":
                worst = state
            elif state != "ok" and worst == "ok":
                worst = "changed"
        if files and self._store.items.get(item_id).state != worst:
            self._store.items.set_state(item_id, worst)
        return worst

    def suspect(self, cid: CID) -> None:
        """Somebody says that this block was served wrong: the next read compares it with its CID whatever is known."""
        for place in self._store.references.locate(cid.v1.binary):
            self._verified.pop((place.file_id, place.offset), None)
            if place.verified is not None:
                self._store.references.set_verified(place.file_id, 0.0)

    def _stored(self, cid: CID) -> bytes | None:
        """A block that is kept as bytes, or carried in its CID."""
        if (inline := cid.inline) is not None:
            return inline
        stored = self._store.blocks.get(cid.binary)
        if stored is None or cid.matches(stored):
            return stored
        self._store.blocks.remove([cid.binary])
        return None

    def _locate(self, cids: Sequence[CID]) -> dict[bytes, list[Located]]:
        """Where chunks lie, in one statement for many of them."""
        return self._store.references.locate_many([cid.binary for cid in cids if cid.codec == RAW])

    def _find(
        self, cid: CID, room: memoryview, known: dict[bytes, list[Located]]
    ) -> int | LocalError | list[_Pending] | None:
        """The size of the block that is in `room` now, an error, the places that a worker thread has to try, or None
        when it does not fit."""
        raw = cid.codec == RAW and cid.inline is None
        stored = None if raw else self._stored(cid)
        places = known.get(cid.binary, []) if raw else []
        if not raw and stored is None:
            places = self._store.references.locate(cid.binary)
        if raw and not places:
            stored = self._stored(cid)
        if stored is not None:
            if len(stored) > len(room):
                return None
            room[: len(stored)] = stored
            return len(stored)
        late: list[_Pending] = []
        problem: LocalError | None = None
        for place in places:
            if place.transform != "identity":
                continue
            if place.length > len(room):
                return None
            quick = self._try(cid, place, room[: place.length])
            if isinstance(quick, int):
                return quick
            if isinstance(quick, LocalError):
                problem = quick
            else:
                late.append(quick)
        return late or problem or NotFound(f"there is no block {cid} here")

    def _try(self, cid: CID, place: Located, into: memoryview) -> int | LocalError | _Pending:
        if place.length == place.size <= SMALL:
            if _read_small(cid, place, into):
                return place.length
            return self._settle(_Pending(cid, place, False, into), _read_one(_Pending(cid, place, True, into)))
        try:
            status = os.stat(place.path)
        except OSError as error:
            return self._lost(place, error)
        expected = Identity(place.size, place.inode, place.mtime_ns)
        if Identity.of(status) != expected or not stat.S_ISREG(status.st_mode):
            return self._changed(place)
        verify = not self._is_verified(place, expected)
        if verify and place.length > SMALL:
            return _Pending(cid, place, verify, into)
        try:
            descriptor = self._files.get(place.path, status)
            if not _read_now(descriptor, place, into, in_memory=status.st_dev in self._in_memory):
                return _Pending(cid, place, verify, into)
            after = os.fstat(descriptor)
        except OSError as error:
            return self._lost(place, error)
        if Identity.of(after) != expected:
            return self._changed(place)
        if verify:
            if not _matches(cid, into):
                return self._rotten(place)
            self._remember(place, expected)
        return place.length

    async def _in_thread(self, pendings: list[_Pending]) -> int | LocalError:
        problem: LocalError | None = None
        for pending in pendings:
            [result] = await trio.to_thread.run_sync(_read_all, [pending], limiter=self._limiter)
            settled = self._settle(pending, result)
            if isinstance(settled, int):
                return settled
            problem = settled
        return problem or NotFound("there is no such block here")

    def _settle(self, pending: _Pending, result: FileState | OSError) -> int | LocalError:
        """Take in what the thread found: the bytes are there, an error, or what became of the file."""
        place = pending.place
        if isinstance(result, OSError):
            return self._lost(place, result)
        if result == "rotten":
            return self._rotten(place)
        if result != "ok":
            return self._changed(place)
        if pending.verify:
            self._remember(place, Identity(place.size, place.inode, place.mtime_ns))
        return place.length

    def _is_verified(self, place: Located, identity: Identity) -> bool:
        if place.state != "ok":
            return False
        now = self._now()
        when = place.verified
        seen = self._verified.get((place.file_id, place.offset))
        if seen is not None and seen[0] == identity:
            when = max(seen[1], when or 0.0)
        since = max(now - DAY, self._trusted_since)
        return when is not None and since < when <= now and when - identity.mtime_ns / 1e9 >= _racy(identity)

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

    def _rotten(self, place: Located) -> LocalError:
        if place.state != "rotten":
            self._trusted_since = self._now()
            self._verified.clear()
            self._store.set_meta(_TRUSTED_SINCE, repr(self._trusted_since))
            self._store.references.mark_file(place.file_id, "rotten")
            _log.warning("%r has other bytes than when it was shared, though nobody wrote to it", place.path)
        return SourceChanged(
            f"{place.path!r} is damaged: it has other bytes than when it was shared, though nobody wrote to it",
            hint="look at the disk; `p2pshare verify` names every damaged file",
        )

    def _lost(self, place: Located, error: OSError) -> LocalError:
        """The file is not there. One that may merely not be read (permissions, I/O errors) is not marked."""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            self._store.references.mark_file(place.file_id, "missing")
            return NotFound(f"{place.path!r} is not there any more", hint="put it back, or unshare it")
        if isinstance(error, NotRegular):
            return self._changed(place)
        return NotFound(f"{place.path!r} could not be read: {error.strerror or error}")


def _racy(identity: Identity) -> float:
    """How long after a file's time stamp a write may still leave it as it is: the kernel stamps with its tick of at
    most 10 ms, unless the file system keeps less."""
    return RACY if identity.mtime_ns % 10**9 else RACY_COARSE


def _read_now(descriptor: int, place: Located, into: memoryview, *, in_memory: bool) -> bool:
    """Read the chunk if that needs no waiting for a disk; False when it does, or when a file system cannot tell."""
    if place.length > INLINE:
        return False
    if in_memory:
        return _read_fully(descriptor, into, place.offset)
    try:
        return bool(_NOWAIT) and os.preadv(descriptor, [into], place.offset, _NOWAIT) == place.length
    except OSError:  # EAGAIN: it would have to wait; EOPNOTSUPP
        return False


def _matches(cid: CID, data: memoryview) -> bool:
    if cid.binary[:4] == _SHA256_RAW:
        return hashlib.sha256(data).digest() == cid.binary[4:]
    try:
        return cid.matches(data)
    except UnsupportedHash:
        return False


def _read_all(pendings: Sequence[_Pending]) -> list[FileState | OSError]:
    """In a worker thread: what became of each one's file. After the first that is not "ok", the rest is not read."""
    results: list[FileState | OSError] = []
    for pending in pendings:
        results.append(_read_one(pending) if not results or results[-1] == "ok" else "changed")
    return results


def _read_small(cid: CID, place: Located, into: memoryview) -> bool:
    """Read a whole small file, in the fewest calls; False when it is not what it was, or cannot be read."""
    try:
        descriptor = os.open(place.path, OPEN_FLAGS)
        try:
            count = os.preadv(descriptor, [into], 0)
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    same = (status.st_size, status.st_ino, status.st_mtime_ns) == (place.size, place.inode, place.mtime_ns)
    return same and count == place.length and stat.S_ISREG(status.st_mode) and _matches(cid, into)


def _read_one(pending: _Pending) -> FileState | OSError:
    place = pending.place
    expected = Identity(place.size, place.inode, place.mtime_ns)
    try:
        descriptor, before = open_regular(place.path)
        try:
            if Identity.of(before) != expected:
                return "changed"
            if not _read_fully(descriptor, pending.into, place.offset):
                return "changed"
            if Identity.of(os.fstat(descriptor)) != expected:
                return "changed"
        finally:
            os.close(descriptor)
    except OSError as error:
        return error
    return "ok" if not pending.verify or _matches(pending.cid, pending.into) else "rotten"


def _read_fully(descriptor: int, into: memoryview, offset: int) -> bool:
    done = 0
    while done < len(into):  # a signal, or a file system that reads in pieces
        count = os.preadv(descriptor, [into[done:]], offset + done)
        if not count:
            return False
        done += count
    return True


def _states(files: Sequence[SourceFile]) -> list[FileState]:
    return [_state(file) for file in files]


def _state(file: SourceFile) -> FileState:
    """By its status. A rotten file stays one until it is verified or shared again: its status tells nothing."""
    try:
        status = os.stat(file.path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return file.state
    same = Identity.of(status) == Identity(file.size, file.inode, file.mtime_ns) and stat.S_ISREG(status.st_mode)
    if file.state == "rotten":
        return "rotten"
    return "ok" if same else "changed"
