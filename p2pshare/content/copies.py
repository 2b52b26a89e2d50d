"""Kept copies (`share --copy`, standard input): HOME/copies/NUMBER/NAME, whole and durable before they are shared."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import Final

from p2pshare.content.files import Identity, open_regular
from p2pshare.content.syscalls import syncfs
from p2pshare.content.walk import FoundDirectory, FoundFile, FoundLink, Scan, skip
from p2pshare.errors import DiskFull, from_os_error

COPIES: Final = "copies"
_PIECE: Final = 8 << 20


def directory_of(home: str, number: int) -> str:
    """The directory of one copy."""
    return os.path.join(home, COPIES, str(number))


def place_of(home: str, number: int, name: str) -> str:
    """Where the copy of `name` for share number `number` goes."""
    return os.path.join(directory_of(home, number), name)


def numbers(home: str) -> list[int]:
    """The numbers of the copies that are there, also of ones that nothing knows."""
    try:
        return [int(name) for name in os.listdir(os.path.join(home, COPIES)) if name.isdecimal()]
    except OSError:
        return []


def remove_directory(directory: str) -> None:
    """Delete a copy by its directory, if it is there."""
    shutil.rmtree(directory, ignore_errors=True)


def copy(scan: Scan, target: str) -> None:
    """Copy what was found to `target`, replacing an unfinished earlier copy. For a worker thread.

    Files that cannot be read are told in `scan.skipped` and left out. Raises DiskFull, PermissionDenied, LocalError;
    then nothing is left at `target`.
    """
    remove(target)
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        base = len(scan.root.path)
        if isinstance(scan.root, FoundLink):
            os.symlink(scan.root.target, target)
        for directory in scan.directories:
            os.mkdir(target + directory.path[base:], 0o700)
            for entry in directory.entries:
                if isinstance(entry, FoundLink):
                    os.symlink(os.fsdecode(entry.target), target + entry.path[base:])
        for file in scan.files:
            _copy_file(file, target + file.path[base:], scan)
        _sync(os.path.dirname(target))
    except OSError as error:
        remove(target)
        mapped = from_os_error(error, f"keep a copy of {scan.root.path}")
        if isinstance(mapped, DiskFull):
            mapped.hint = "share it in place (without --copy), or make room on the disk of p2pshare's data"
        raise mapped from error


def remove(target: str) -> None:
    """Delete a kept copy and the directory made for it, if it is there."""
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(target)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(target))


def is_copy(home: str, path: str | None) -> bool:
    """Whether `path` is a kept copy that belongs to `home`: its owner is p2pshare, and unsharing deletes it."""
    if path is None:
        return False
    parent = os.path.dirname(path)
    return os.path.dirname(parent) == os.path.join(home, COPIES) and os.path.basename(parent).isdigit()


def _copy_file(file: FoundFile, target: str, scan: Scan) -> None:
    try:
        source, status = open_regular(file.path)
    except OSError as error:
        if file is scan.root:
            raise
        scan.skipped.append(skip(file.path, f"could not be read: {(error.strerror or str(error)).lower()}"))
        _forget(file, scan)
        return
    try:
        sink = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _copy_bytes(source, sink)
        finally:
            os.close(sink)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(source)


def _copy_bytes(source: int, sink: int) -> None:
    """In the kernel where it can (sharing blocks on btrfs, xfs), else through a buffer."""
    copy_range = getattr(os, "copy_file_range", None)
    while copy_range is not None:
        try:
            if copy_range(source, sink, _PIECE) == 0:
                return
        except OSError:
            break  # two file systems that cannot: from where it stopped, by hand; a real error comes again there
    while data := os.read(source, 1 << 20):
        view = memoryview(data)
        while view:
            view = view[os.write(sink, view) :]


def _forget(file: FoundFile, scan: Scan) -> None:
    scan.files = [other for other in scan.files if other is not file]
    for directory in scan.directories:
        directory.entries = [entry for entry in directory.entries if entry is not file]


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(descriptor)
    finally:
        os.close(descriptor)


def retarget(scan: Scan, target: str) -> None:
    """Make a scan speak of the copy at `target` instead of what was copied. Raises OSError."""
    base = len(scan.root.path)
    for directory in scan.directories:
        for entry in directory.entries:
            if not isinstance(entry, FoundDirectory):
                entry.path = target + entry.path[base:]
    for directory in scan.directories:
        directory.path = target + directory.path[base:]
    if not isinstance(scan.root, FoundDirectory):
        scan.root.path = target
    scan.size = 0
    for file in scan.files:
        file.identity = Identity.of(os.stat(file.path))
        scan.size += file.identity.size
