"""What the operating system offers and Python's `os` does not wrap. The place for what depends on the platform."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable


def allocate(descriptor: int, offset: int, length: int) -> bool:
    """Give a range of a file its room on the disk, growing the file; what stands there stays. Raises OSError (ENOSPC).

    False when the file system cannot (or this is not Linux). posix_fallocate(3) would then write zeros itself, over
    what another thread writes at that moment.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if call is None:
        return False
    while call(descriptor, 0, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        code = ctypes.get_errno()
        if code in {errno.EOPNOTSUPP, errno.ENOSYS}:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def sync_all(descriptors: Iterable[int], anywhere: int) -> None:
    """Make what was written durable: file by file when they are few, else the file system that `anywhere` is on."""
    few = list(descriptors)
    if len(few) > 16 and _syncfs(anywhere):
        return
    for descriptor in few:
        os.fsync(descriptor)


def syncfs(descriptor: int) -> None:
    """Make everything on the descriptor's file system durable (Linux; elsewhere all file systems)."""
    if not _syncfs(descriptor):
        os.sync()


def umask() -> int:
    """The process's mask, read without changing it where the system tells it (Linux 4.7), else 0o022."""
    try:
        with open("/proc/self/status", "rb") as file:
            return next((int(line.split()[1], 8) for line in file if line.startswith(b"Umask:")), 0o022)
    except OSError:
        return 0o022


def _syncfs(descriptor: int) -> bool:
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    if call(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True


def rename_new(source: str, target: str, *, directory: int) -> None:
    """Rename a file within a directory, never over something. Raises FileExistsError when `target` is there."""
    try:
        os.link(source, target, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
    else:
        os.unlink(source, dir_fd=directory)
        return
    # A file system without hard links (FAT, some of FUSE): a gap between looking and renaming is left there.
    with contextlib.suppress(FileNotFoundError):
        os.stat(target, dir_fd=directory, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target, src_dir_fd=directory, dst_dir_fd=directory)


def memory_devices(mounts: str = "/proc/self/mountinfo") -> frozenset[int]:
    """The devices (st_dev) whose files are always in memory: reading one never waits for a disk. Linux only."""
    try:
        with open(mounts, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return frozenset()
    found = set()
    for line in lines:
        head, _, tail = line.partition(b" - ")
        if tail.split(b" ", 1)[0] in {b"tmpfs", b"ramfs"}:
            major, _, minor = head.split(b" ")[2].partition(b":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)
