"""Where a fetch writes: NAME.part beside its final name, then one rename. A stranger's names never lead elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Final, Self

from p2pshare.content.final_name import FinalName
from p2pshare.content.hints import HINTS, mapped
from p2pshare.content.layout import lay_out, link_stays_inside
from p2pshare.content.syscalls import allocate, sync_all, syncfs, umask
from p2pshare.content.tree import Descriptors, SafePath, Tree
from p2pshare.errors import Blocked, DiskFull, NotFound
from p2pshare.store import SourceFile
from p2pshare_protocols.dagplan import Entry
from p2pshare_protocols.text import clean, safe_filename

_RESERVED: Final = 1 << 20  # bytes; smaller files get their room as they are written
_STEP: Final = 64 << 20  # bytes reserved at once: on tmpfs nobody can write meanwhile
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_REWRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def target_of(path: str, name: str) -> str:
    """Where a fetch to `path` ends: in an existing directory (or a path that ends in "/") under the item's name."""
    if path.endswith("/") or os.path.isdir(path):
        return os.path.join(path, safe_filename(name))
    return path


def check_target(path: str, *, overwrite: bool) -> None:
    """Say early, before anything is asked of the network, that a fetch to `path` cannot end well.

    Raises Exists, NotFound or PermissionDenied.
    """
    with mapped(f"write {path}"):
        parent = os.path.dirname(path) or "."
        if not os.path.isdir(parent):
            raise NotADirectoryError(20, "its directory is not there", path)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(13, f"{parent} cannot be written", path)
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(17, "it is there already", path)


class Destination:
    """One fetch's files, by their number in `entries`. Synchronous; `write`, `read` may be called by several threads.

    Every method raises LocalError kinds only: disk-full, permission, exists, not-found, failed.
    """

    def __init__(self, path: str, entries: Sequence[Entry], *, overwrite: bool, part: str | None) -> None:
        self.path = path
        self.skipped: list[dict[str, str]] = []
        self._entries = entries
        self._overwrite = overwrite
        self._single = len(entries) == 1 and not entries[0].path and entries[0].kind != "directory"
        self._descriptors = Descriptors()
        self._dirty: set[int] = set()
        self._made: set[int] = set()
        self._making = threading.Lock()
        self._dirtying = threading.Lock()
        self._finished = False
        directory = os.path.dirname(path)
        self._directory = os.path.join(directory, "")
        self._forbidden = umask() & 0o022  # whom this user lets nobody write, no stranger's mode lets
        self._status: dict[int, tuple[int, int, int]] = {}  # size, inode, mtime of files written in one go
        with mapped(f"write {path}"), contextlib.ExitStack() as undo:
            self._parent = os.open(directory or ".", _DIRECTORY)
            undo.callback(os.close, self._parent)
            self._final = FinalName(self._parent, path)
            self._renamed = part is not None and self._final.was_taken_from(part, single=self._single)
            if self._renamed:
                part = self._final.name
            elif not overwrite and self._final.exists(self._final.name):
                raise FileExistsError(17, "it is there already", path)
            self._part = part or self._final.free_part()
            self._resumed = part is not None and self._final.exists(part)
            self._check_room()
            if self._single:
                self._tree = Tree(os.dup(self._parent))
                self._paths: list[SafePath] = [(self._part,)]
            else:
                self._tree = self._open_tree()
                self._paths = lay_out([entry.path for entry in entries], fold=self._folds())
            undo.pop_all()

    @classmethod
    def open(cls, path: str, entries: Sequence[Entry], *, overwrite: bool = False, part: str | None = None) -> Self:
        """Begin to write `entries` (of a Plan, or some of them) to the absolute `path`, whose directory is there.

        `part` is what `part_name` said before a restart: files written then are kept.
        """
        if not entries:
            raise NotFound("there is nothing to write")
        return cls(path, entries, overwrite=overwrite, part=part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def part_name(self) -> str:
        """The name, in the destination's directory, under which all is written until `finish`. Keep it to resume."""
        return self._part

    @property
    def resumed(self) -> bool:
        """Whether there is something of an earlier run. When not, no record of what was written holds any more."""
        return self._resumed

    @property
    def renamed(self) -> bool:
        """Whether an earlier run may have ended behind its rename: what is at the final path is then taken for ours.
        Compare all of it with its CIDs before anything is written; when it is not whole, open anew without `part`."""
        return self._renamed

    def path_of(self, index: int) -> str:
        """The absolute path of an entry: below NAME.part, and after `finish` below NAME."""
        base = self._directory + (self._final.name if self._finished else self._part)
        return base if self._single else "/".join((base, *self._paths[index]))

    def safe_path(self, index: int) -> SafePath:
        """The names under which an entry lies below the destination."""
        return self._paths[index]

    def source_file(self, index: int) -> SourceFile:
        """A file as the catalogue refers to it, as it is now."""
        path = self.path_of(index)
        known = self._status.get(index)
        if known is not None:
            return SourceFile(path, *known)
        with mapped(f"read {path}"):
            status = os.stat(path, follow_symlinks=False)
        return SourceFile(path, status.st_size, status.st_ino, status.st_mtime_ns)

    def write(self, index: int, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write file bytes that were verified. The file is made on the first call; b"" makes an empty one."""
        with mapped(f"write {self.path_of(index)}"):
            if index not in self._made:
                self._make(index)
            with self._borrow(index) as descriptor:
                done = 0
                while done < len(data):
                    done += os.pwrite(descriptor, memoryview(data)[done:], offset + done)
            with self._dirtying:
                self._dirty.add(index)

    def reserve(self, stop: Callable[[], bool]) -> None:
        """Give the large files their room until `stop()`, for a thread beside those that write: they need not wait.

        A full disk shows in the first moments. On tmpfs 1 GiB takes 0.2 s, elsewhere next to nothing. Raises DiskFull.
        """
        with mapped(f"write {self.path}"):
            for index, entry in enumerate(self._entries):
                size = entry.size or 0
                if entry.kind == "file" and size >= _RESERVED and not stop():
                    if index not in self._made:
                        self._make(index)
                    with self._borrow(index) as descriptor:
                        for at in range(0, size, _STEP):
                            if stop() or not allocate(descriptor, at, min(_STEP, size - at)):
                                break

    def write_whole(self, files: Sequence[tuple[int, memoryview]]) -> None:
        """Make and write small files, each all of its bytes, that were verified; neighbours cost one directory."""
        with mapped(f"write {self.path}"), contextlib.ExitStack() as stack:
            parent: SafePath | None = None
            directory = -1
            for index, data in files:
                path = self._paths[index]
                if path[:-1] != parent:
                    stack.close()
                    parent = path[:-1]
                    self._tree.make_directories(parent)
                    directory = stack.enter_context(self._tree.opened(parent))
                self._write_one(index, path[-1], directory, data)
        with self._dirtying:
            self._dirty.update(index for index, _ in files)

    def _write_one(self, index: int, name: str, directory: int, data: memoryview) -> None:
        with self._making:
            there = index in self._made
            self._made.add(index)
        descriptor = os.open(name, _REWRITE if there or self._resumed else _CREATE, 0o666, dir_fd=directory)
        try:
            if (there or self._resumed) and not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileExistsError(17, "it is not a file", name)
            done = 0
            while done < len(data):
                done += os.pwrite(descriptor, data[done:], done)
            status = os.fstat(descriptor)
            if status.st_size != len(data):  # an earlier run's, of another length
                os.ftruncate(descriptor, len(data))
                status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        entry = self._entries[index]
        if entry.mtime is None and entry.mode is None:
            self._status[index] = (status.st_size, status.st_ino, status.st_mtime_ns)

    def read(self, index: int, offset: int, length: int) -> bytes:
        """Bytes written before; shorter at the end of the file, empty when it is not there."""
        with mapped(f"read {self.path_of(index)}"):
            try:
                with self._borrow(index) as descriptor:
                    return os.pread(descriptor, length, offset)
            except FileNotFoundError:
                return b""

    def sync(self) -> None:
        """Make everything written so far durable: before anything is recorded that relies on it."""
        with self._dirtying:
            dirty, self._dirty = self._dirty, set()
        try:
            with mapped(f"write {self.path}"), contextlib.ExitStack() as stack:
                if len(dirty) > 16:
                    syncfs(self._tree.root)
                else:
                    sync_all([stack.enter_context(self._borrow(index)) for index in dirty], self._tree.root)
        except BaseException:
            with self._dirtying:
                self._dirty |= dirty
            raise

    def finish(self) -> str:
        """Make what is not there yet (empty files, directories, links), apply modes and times, rename. The final path.

        Links that would lead out of the tree are left out and told in `skipped`.
        """
        with mapped(f"write {self.path}"):
            for index, entry in enumerate(self._entries):
                self._complete(index, entry)
            self._descriptors.close()
            for index in range(len(self._entries) - 1, -1, -1):  # a directory after what it holds
                self._adorn(index, self._entries[index])
            syncfs(self._tree.root) if len(self._entries) > 1 else self._sync_single()
            if not self._renamed:
                self._rename()
            os.fsync(self._parent)
        self._finished = True
        return self.path

    def abandon(self) -> None:
        """Delete what was written: for a fetch that was cancelled."""
        self.close()
        part = os.path.join(os.path.dirname(self.path), self._part)
        with contextlib.suppress(OSError):
            if self._single:
                os.unlink(part)
            else:
                shutil.rmtree(part)

    def close(self) -> None:
        """Close all descriptors; what was written stays. Safe to call twice."""
        self._descriptors.close()
        if self._parent >= 0:
            self._tree.close()
            os.close(self._parent)
            self._parent = -1

    def _borrow(self, index: int) -> contextlib.AbstractContextManager[int]:
        return self._descriptors.borrow(index, self._tree, self._paths[index], os.O_RDWR)

    def _check_room(self) -> None:
        needed = sum(entry.size or 0 for entry in self._entries)
        status = os.fstatvfs(self._parent)
        room = status.f_bavail * status.f_frsize
        if needed > room and not self._resumed:
            raise DiskFull(f"{self.path} needs {needed} bytes, and its disk has {room} left", hint=HINTS[DiskFull])

    def _open_tree(self) -> Tree:
        if not self._resumed:
            os.mkdir(self._part, 0o777, dir_fd=self._parent)
        return Tree(os.open(self._part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._parent))

    def _folds(self) -> bool:
        """Whether the file system here takes names for one that differ in case or composition: by trying."""
        if len(self._entries) < 3:
            return False
        name = ".p2pshare-Probe-\u00e9"
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=self._tree.root))
        try:
            os.stat(".p2pshare-probe-e\u0301", dir_fd=self._tree.root)
        except FileNotFoundError:
            return False
        else:
            return True
        finally:
            os.unlink(name, dir_fd=self._tree.root)

    def _make(self, index: int) -> None:
        """Make a file; take it as it is when an earlier run made it."""
        path = self._paths[index]
        with self._making:
            if index in self._made:
                return
            if not self._single:
                self._tree.make_directories(path[:-1])
            try:
                descriptor = self._tree.open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                if not self._resumed:
                    raise
                descriptor = self._tree.open_file(path, os.O_RDWR)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise FileExistsError(17, "it is not a file", path[-1])
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptors.adopt(index, descriptor)
            self._made.add(index)

    def _complete(self, index: int, entry: Entry) -> None:
        path = self._paths[index]
        if entry.kind == "directory":
            self._tree.make_directories(path)
        elif entry.kind == "symlink":
            self._link(path, entry)
        else:
            if index not in self._made:
                self._make(index)
            if entry.size is not None and self._resumed:  # a file made and filled in one run has its size
                with self._borrow(index) as descriptor:
                    if os.fstat(descriptor).st_size != entry.size:
                        os.ftruncate(descriptor, entry.size)

    def _link(self, path: SafePath, entry: Entry) -> None:
        if not link_stays_inside(entry.path, entry.target):
            where = clean(b"/".join(entry.path), limit=1000)
            reason = f"a symbolic link that leads out of the directory, to {clean(entry.target)}"
            self.skipped.append({"path": where, "reason": reason})
            return
        self._tree.make_directories(path[:-1])
        with self._tree.opened(path[:-1]) as parent, contextlib.suppress(FileExistsError):
            os.symlink(entry.target.decode("utf-8", "surrogateescape"), path[-1], dir_fd=parent)

    def _adorn(self, index: int, entry: Entry) -> None:
        """Mode (permission bits only, the owner always may) and mtime, when the DAG has them."""
        path = self._paths[index]
        root = not path
        if entry.kind == "symlink" or (entry.mode is None and entry.mtime is None):
            return
        flags = os.O_RDONLY | (os.O_DIRECTORY if entry.kind == "directory" else 0)
        descriptor = os.dup(self._tree.root) if root else self._tree.open_file(path, flags)
        try:
            owner = 0o700 if entry.kind == "directory" else 0o600
            if entry.mode is not None:
                os.fchmod(descriptor, entry.mode & 0o777 & ~self._forbidden | owner)
            if entry.mtime is not None:
                when = entry.mtime.seconds * 1_000_000_000 + entry.mtime.nanoseconds
                os.utime(descriptor, ns=(when, when))
        except OverflowError:
            pass  # a time that this system cannot express
        finally:
            os.close(descriptor)

    def _sync_single(self) -> None:
        if not self._single:
            os.fsync(self._tree.root)
        elif self._entries[0].kind == "file":
            descriptor = self._tree.open_file(self._paths[0], os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _rename(self) -> None:
        if self._single and self._entries[0].kind == "symlink" and self.skipped:
            raise Blocked(f"{self.path} is not made: {self.skipped[0]['reason']}")
        self._final.take(self._part, single=self._single, overwrite=self._overwrite)
