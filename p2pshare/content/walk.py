"""Walking what a person wants to share: which files, directories and links there are, and what is left out and why."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from p2pshare.content.files import Identity
from p2pshare.errors import UsageError, from_os_error
from p2pshare_protocols.cid import CID
from p2pshare_protocols.text import clean

MAX_ENTRIES: Final = 1_000_000  # what a walk of the DAG allows, here and at whoever fetches it
MAX_DEPTH: Final = 63  # directories below the root: one less than what a fetch walks

_SPECIAL: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(slots=True)
class FoundFile:
    """A file, with what it was when it was found; `cid` and `tsize` come when it is hashed, `type` then too."""

    name: bytes
    path: str
    identity: Identity
    cid: CID | None = None
    tsize: int = 0
    type: str = ""


@dataclass(slots=True)
class FoundLink:
    name: bytes
    path: str
    target: bytes


@dataclass(slots=True)
class FoundDirectory:
    name: bytes
    path: str
    entries: list[FoundFile | FoundLink | FoundDirectory] = field(default_factory=list)


Found = FoundFile | FoundLink | FoundDirectory


@dataclass(slots=True)
class Scan:
    """What was found under one path. `skipped` are {"path", "reason"}; sizes in bytes."""

    root: Found
    files: list[FoundFile] = field(default_factory=list)
    directories: list[FoundDirectory] = field(default_factory=list)  # parents before what they hold
    size: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)


class _Place:
    """A directory still to be read, and the directories above it (device, inode), to notice loops."""

    __slots__ = ("above", "depth", "directory", "inner")

    def __init__(self, directory: FoundDirectory, inner: str, depth: int, above: frozenset[tuple[int, int]]) -> None:
        self.directory = directory
        self.inner = inner
        self.depth = depth
        self.above = above


_OWN: Final = "p2pshare's own data is not shared"


class Scanner:
    """How to walk. `never` are (device, inode) of directories and files that are not shared (our own)."""

    def __init__(
        self,
        *,
        hidden: bool = False,
        follow_symlinks: bool = False,
        exclude: Sequence[str] = (),
        never: Collection[tuple[int, int]] = (),
    ) -> None:
        self._hidden = hidden
        self._follow = follow_symlinks
        self._exclude = [re.compile(fnmatch.translate(os.path.normcase(pattern.rstrip("/")))) for pattern in exclude]
        self._never = frozenset(never)

    def scan(self, path: str) -> Scan:
        """Walk `path` (absolute). For a worker thread. The root is taken even when hidden or excluded.

        Raises NotFound, PermissionDenied, UsageError (a device, a name that is not UTF-8, over 1,000,000 entries).
        """
        name = os.fsencode(os.path.basename(path.rstrip("/")) or "root")
        try:
            status = os.stat(path) if self._follow else os.lstat(path)
            if not stat.S_ISLNK(status.st_mode):
                _check_readable(path, status)
            if stat.S_ISLNK(status.st_mode):
                return Scan(FoundLink(name, path, os.fsencode(os.readlink(path))))
        except OSError as error:
            raise from_os_error(error, f"share {path}") from error
        if stat.S_ISREG(status.st_mode):
            file = FoundFile(name, path, Identity.of(status))
            return Scan(file, [file], size=status.st_size)
        if not stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{path} is {_kind(status.st_mode)}; only files and directories can be shared")
        root = FoundDirectory(name, path)
        scan = Scan(root, directories=[root])
        stack = [_Place(root, "", 0, frozenset([(status.st_dev, status.st_ino)]))]
        count = 1
        while stack:
            place = stack.pop()
            count += self._read(place, scan, stack)
            if count > MAX_ENTRIES:
                raise UsageError(
                    f"{path} holds more than {MAX_ENTRIES} files and directories",
                    hint="share its parts one by one, or leave some out with --exclude",
                )
        return scan

    def _read(self, place: _Place, scan: Scan, stack: list[_Place]) -> int:
        try:
            with os.scandir(place.directory.path) as found:
                entries = sorted(found, key=attrgetter("name"))
        except OSError as error:
            _skip(scan, place.directory.path, f"could not be read: {_reason(error)}")
            return 0
        for entry in entries:
            if self._is_left_out(entry.name, place.inner):
                continue
            try:
                self._take(entry, entry.name.encode("utf-8"), place, scan, stack)
            except UnicodeEncodeError:
                _skip(scan, entry.path, "its name is not UTF-8")
            except OSError as error:
                _skip(scan, entry.path, f"could not be read: {_reason(error)}")
        return len(entries)

    def _is_left_out(self, name: str, above: str) -> bool:
        if name[0] == "." and not self._hidden:
            return True
        return bool(self._exclude) and any(
            pattern.match(name) or pattern.match(above + name) for pattern in self._exclude
        )

    def _take(self, entry: os.DirEntry[str], name: bytes, place: _Place, scan: Scan, stack: list[_Place]) -> None:
        path = entry.path
        if entry.is_symlink():
            if not self._follow:
                place.directory.entries.append(FoundLink(name, path, os.fsencode(os.readlink(path))))
                return
            try:
                status = os.stat(path)
            except FileNotFoundError:
                _skip(scan, path, "a symbolic link that leads nowhere")
                return
        else:
            status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            if (status.st_dev, status.st_ino) in self._never:
                _skip(scan, path, _OWN)
                return
            size = status.st_size
            file = FoundFile(name, path, Identity(size, status.st_ino, status.st_mtime_ns))
            place.directory.entries.append(file)
            scan.files.append(file)
            scan.size += size
        elif stat.S_ISDIR(status.st_mode):
            below = self._enter(FoundDirectory(name, path), place.inner + entry.name, status, place, scan)
            if below is not None:
                stack.append(below)
        else:
            _skip(scan, path, f"it is {_kind(status.st_mode)}")

    def _enter(
        self, directory: FoundDirectory, inner: str, status: os.stat_result, place: _Place, scan: Scan
    ) -> _Place | None:
        """Take a directory in, unless something speaks against it; where to go on reading."""
        path = directory.path
        identity = (status.st_dev, status.st_ino)
        if identity in place.above:
            _skip(scan, path, "a symbolic link that leads back to a directory above it")
        elif identity in self._never:
            _skip(scan, path, _OWN)
        elif place.depth >= MAX_DEPTH:
            _skip(scan, path, f"more than {MAX_DEPTH} directories deep")
        else:
            _check_readable(path, status)
            place.directory.entries.append(directory)
            scan.directories.append(directory)
            above = place.above | {identity} if self._follow else place.above
            return _Place(directory, inner + "/", place.depth + 1, above)
        return None


def _check_readable(path: str, status: os.stat_result) -> None:
    if not os.access(path, os.R_OK | os.X_OK if stat.S_ISDIR(status.st_mode) else os.R_OK):
        raise PermissionError(13, "permission denied", path)


def _skip(scan: Scan, path: str, reason: str) -> None:
    scan.skipped.append(skip(path, reason))


def skip(path: str, reason: str) -> dict[str, str]:
    """One line of what was left out, safe to print."""
    return {"path": clean(os.fsencode(path), limit=4096), "reason": reason}


def _kind(mode: int) -> str:
    return next((words for test, words in _SPECIAL if test(mode)), "something that is neither file nor directory")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
