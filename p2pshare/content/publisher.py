"""From a walked tree to an item in the catalogue: hash what is new, keep what is known, make it visible at once.

While it is under way, files and blocks belong to an owner that is no item (a negative number); the last transaction
adds the item and gives them to it. What is killed before goes on later: files hashed already cost one stat each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

import trio

from p2pshare.content import dag
from p2pshare.content.files import Identity
from p2pshare.content.hashing import CHANGED, Hashed, Hasher, run_ordered
from p2pshare.content.walk import FoundFile, Scan, skip
from p2pshare.errors import LocalError, SourceChanged
from p2pshare.store import Item, ItemDraft, NameRow, SourceFile, Store
from p2pshare.store.names import NameTuple
from p2pshare.store.references import Known
from p2pshare_protocols.builder import Built, FileBuilder, Profile
from p2pshare_protocols.cid import BLAKE3, CID, RAW, SHA2_256

FLUSH_ROWS: Final = 2048  # chunks, and
FLUSH_BLOCKS: Final = 4 << 20  # bytes of blocks, in one transaction
NAMES_A_TRANSACTION: Final = 2000
_KNOWN_A_TURN: Final = 1000  # files looked up before other tasks get their turn
_RELEASED_A_TURN: Final = 2000

Chunk = tuple[bytes, int, int]


class Publisher:
    """Builds one scan at a time into the store. `progress(bytes done, bytes in all)` is called often."""

    def __init__(
        self,
        store: Store,
        profile: Profile,
        *,
        owner: int,
        progress: Callable[[int, int], None],
        limiter: trio.CapacityLimiter | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._profile = profile
        self._owner = owner
        self._report = progress
        self._limiter = limiter or trio.CapacityLimiter(2)
        self._now = wall_clock
        self._begun = self._now()
        self._code = SHA2_256 if profile.hash == "sha256" else BLAKE3
        self._raw = bytes((1, RAW, self._code))
        self._reused: list[int] = []  # files of other items that this one takes over; they own them until it is made
        self._done = self._total = 0
        self._builders: dict[str, FileBuilder] = {}
        self._rows: dict[str, list[Chunk]] = {}
        self._broken: dict[str, str] = {}
        self._ready: list[tuple[SourceFile, list[Chunk], bytes | None]] = []
        self._ready_rows = 0
        self._blocks: list[tuple[bytes, bytes]] = []
        self._block_bytes = 0

    async def build(self, scan: Scan) -> tuple[Built, Iterator[NameRow]]:
        """Hash and build everything; files that could not be read, or never held still, are told in `scan.skipped`.

        Afterwards `make_item` makes it visible. Raises SourceChanged or LocalError when the root is such a file.
        """
        self._begun = self._now()  # what is written from here on may be in no hash, whatever its time stamp
        self._done, self._total = 0, scan.size
        fresh = await self._reuse(scan)
        await self._hash(fresh)
        again = [file for file in fresh if self._broken.get(file.path) == CHANGED]
        if again:
            await self._hash(await self._look_again(again))
        self._leave_out_broken(scan)
        root, blocks, names = await trio.to_thread.run_sync(dag.build, scan, self._profile, limiter=self._limiter)
        for block in blocks:
            self._keep_block(*block)
        self._flush()
        return root, names

    async def make_item(self, draft: ItemDraft, names: Iterable[NameRow | NameTuple]) -> Item:
        """The item that `build` made the content of. An item that was shared from this path before gives way.

        Raises SourceChanged when files that were known were unshared meanwhile.
        """
        same = self._same_item(draft)
        rest = iter(names)
        removals: list[Iterator[None]] = []
        with self._store.transaction():
            if same is None:
                while draft.path is not None and (old := self._store.items.by_path(draft.path)) is not None:
                    removal = self._store.items.remove_steps(old.id)
                    next(removal)
                    removals.append(removal)
            item = same or self._store.items.add(draft)
            self._store.references.adopt(self._owner, item.id)
            self._store.blocks.adopt(self._owner, item.id)
            if not self._store.references.attach_many(item.id, self._reused):
                raise SourceChanged(f"{draft.name} was unshared while it was shared again", hint="share it once more")
            if same is None:
                self._store.items.add_names(item.id, islice(rest, NAMES_A_TRANSACTION))
            elif item.state != "ok":
                self._store.items.set_state(item.id, "ok")
        if same is None:
            while batch := list(islice(rest, NAMES_A_TRANSACTION)):
                await trio.lowlevel.checkpoint()
                self._store.items.add_names(item.id, batch)
        for removal in removals:
            for _ in removal:
                await trio.lowlevel.checkpoint()
        return self._store.items.get(item.id)

    def discard(self) -> None:
        """Drop what was recorded for an item that will not be made."""
        drop_owner(self._store, self._owner)

    def _same_item(self, draft: ItemDraft) -> Item | None:
        """What is shared from this path already, when nothing about it is new."""
        for item in self._store.items.all_by_cid(draft.cid):
            if item.path == draft.path and (
                (item.name, item.tags, item.title, item.description, item.announce, item.index)
                == (draft.name, draft.tags, draft.title, draft.description, draft.announce, draft.index)
            ):
                return item
        return None

    async def _reuse(self, scan: Scan) -> list[FoundFile]:
        """Take over files whose chunks are in the catalogue and still hold; the others."""
        self._drop_leftovers(scan)
        self._reused = []
        root = scan.root.path if scan.directories else os.path.dirname(scan.root.path)
        if not self._store.references.knows_under(root):
            return list(scan.files)
        fresh: list[FoundFile] = []
        turn = 0
        for directory, files in _by_directory(scan):
            names = (
                [file.name for file in files] if scan.directories else [os.fsencode(os.path.basename(files[0].path))]
            )
            known = self._store.references.known_in(directory, names)
            fresh += [
                file for file, name in zip(files, names, strict=True) if not self._is_known(file, known.get(name))
            ]
            turn += len(files) + 1
            if turn >= _KNOWN_A_TURN:
                turn = 0
                self._report(self._done, self._total)
                await trio.lowlevel.checkpoint()
        return fresh

    def _drop_leftovers(self, scan: Scan) -> None:
        """An earlier run of this job may have recorded files that are no longer part of it, or have changed."""
        found: dict[str, Identity] | None = None
        for file in self._store.references.files_of(self._owner):
            if found is None:
                found = {one.path: one.identity for one in scan.files}
            if found.get(file.path) != Identity(file.size, file.inode, file.mtime_ns):
                self.discard()
                return

    def _is_known(self, file: FoundFile, known: Known | None) -> bool:
        if known is None or known[1:4] != file.identity:
            return False
        root = CID.from_binary(known[4])
        if root.codec == RAW and known[4][: len(self._raw)] == self._raw and known[1] <= self._profile.chunk_size:
            file.cid, file.tsize = root, known[1]
        elif root.hash_code != self._code or not self._rebuild(file, known[0], root):
            return False
        self._reused.append(known[0])
        self._done += known[1]
        return True

    def _rebuild(self, file: FoundFile, file_id: int, root: CID) -> bool:
        """Make a known file's inner nodes again from its chunks; False when they do not lead to the known root."""
        maker = FileBuilder(self._profile)
        blocks = []
        for cid, _, length in self._store.references.chunks_of(file_id):
            blocks += maker.add_leaf(CID.from_binary(cid), length)
        built, last = maker.finish()
        if built.cid != root or built.size != file.identity.size:
            return False
        for block in (*blocks, *last):
            self._keep_block(*block)
        file.cid, file.tsize = built.cid, built.tsize
        return True

    async def _hash(self, files: list[FoundFile]) -> None:
        hasher = Hasher(self._profile)
        work = hasher.work(files, lambda file: file.path in self._broken)
        try:
            await run_ordered(work, self._take, limiter=self._limiter)
        except trio.Cancelled:
            self._flush()  # a pause, or the daemon ends: what is hashed needs not be read again
            raise
        self._flush()

    def _take(self, results: list[Hashed]) -> None:
        for result in results:
            if result.file.path in self._broken:
                continue
            if result.problem:
                self._break(result.file, result.problem)
            else:
                self._add_chunks(result)
        self._report(min(self._done, self._total), self._total)
        if self._ready_rows >= FLUSH_ROWS or self._block_bytes >= FLUSH_BLOCKS:
            self._flush()

    def _break(self, file: FoundFile, problem: str) -> None:
        self._broken[file.path] = problem
        self._builders.pop(file.path, None)
        self._rows.pop(file.path, None)

    def _add_chunks(self, result: Hashed) -> None:
        file, size = result.file, result.file.identity.size
        if result.last and result.first == 0 and len(result.cids) == 1:
            file.cid, file.tsize = result.cids[0], size
            self._done += size
            self._file_ready(file, [(file.cid.binary, 0, size)], None)
            return
        maker = self._builders.setdefault(file.path, FileBuilder(self._profile))
        rows = self._rows.setdefault(file.path, [])
        chunk = self._profile.chunk_size
        for number, cid in enumerate(result.cids, result.first):
            length = min(chunk, size - number * chunk)
            rows.append((cid.binary, number * chunk, length))
            self._done += length
            for block in maker.add_leaf(cid, length):
                self._keep_block(*block)
        if result.last:
            built, blocks = self._builders.pop(file.path).finish()
            for block in blocks:
                self._keep_block(*block)
            file.cid, file.tsize = built.cid, built.tsize
            self._file_ready(file, self._rows.pop(file.path), built.cid.binary)

    def _file_ready(self, file: FoundFile, rows: list[Chunk], root: bytes | None) -> None:
        identity = file.identity
        self._ready.append((SourceFile(file.path, identity.size, identity.inode, identity.mtime_ns), rows, root))
        self._ready_rows += len(rows)

    def _keep_block(self, cid: CID, block: bytes) -> None:
        self._blocks.append((cid.binary, block))
        self._block_bytes += len(block)
        if self._block_bytes >= FLUSH_BLOCKS:
            self._flush()

    def _flush(self) -> None:
        """Record what is ready, durable and in one transaction."""
        if not self._ready and not self._blocks:
            return
        with self._store.transaction():
            ids = self._store.references.add_files(self._owner, self._ready)
            for file_id, (_, rows, _) in zip(ids, self._ready, strict=True):
                if len(rows) > 1:  # a small file is sooner hashed again than noted
                    self._store.references.set_verified(file_id, self._begun)
            self._store.blocks.put_many(self._owner, self._blocks)
        self._ready, self._ready_rows = [], 0
        self._blocks, self._block_bytes = [], 0

    async def _look_again(self, files: list[FoundFile]) -> list[FoundFile]:
        """Files that changed while they were read, as they are now. Those that are gone stay broken."""
        statuses = await trio.to_thread.run_sync(_identities, files, limiter=self._limiter)
        again = []
        for file, identity in zip(files, statuses, strict=True):
            if identity is None:
                self._broken[file.path] = "it vanished while it was read"
                continue
            del self._broken[file.path]
            self._total += identity.size - file.identity.size
            file.identity = identity
            again.append(file)
        self._done = min(self._done, self._total)
        return again

    def _leave_out_broken(self, scan: Scan) -> None:
        if not self._broken:
            return
        if isinstance(scan.root, FoundFile):
            problem = self._broken[scan.root.path]
            error = SourceChanged if problem == CHANGED else LocalError
            raise error(f"{scan.root.path} could not be shared: {problem}", hint="try again when nothing writes to it")
        scan.files = [file for file in scan.files if file.path not in self._broken]
        scan.size = sum(file.identity.size for file in scan.files)
        for directory in scan.directories:
            directory.entries = [entry for entry in directory.entries if entry.path not in self._broken]
        scan.skipped += [skip(path, problem) for path, problem in self._broken.items()]


def drop_owner(store: Store, owner: int) -> None:
    """Take away what an unfinished share recorded as `owner`."""
    while store.references.release(owner, _RELEASED_A_TURN):
        pass
    while store.blocks.release(owner, _RELEASED_A_TURN):
        pass


def _by_directory(scan: Scan) -> Iterator[tuple[str, list[FoundFile]]]:
    """The files of a scan, those of one directory together, a few thousand at most, by name."""
    if isinstance(scan.root, FoundFile):
        yield os.path.dirname(scan.root.path), [scan.root]
    for directory in scan.directories:
        files = iter([entry for entry in directory.entries if type(entry) is FoundFile])
        while batch := list(islice(files, _KNOWN_A_TURN)):
            yield directory.path, batch


def _identities(files: list[FoundFile]) -> list[Identity | None]:
    found: list[Identity | None] = []
    for file in files:
        try:
            found.append(Identity.of(os.stat(file.path)))
        except OSError:
            found.append(None)
    return found
