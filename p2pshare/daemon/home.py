"""The home's directories, private and ours, and the lock that makes a daemon the only one."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from p2pshare.errors import Exists, Locked, PermissionDenied, from_os_error
from p2pshare_protocols.places import Places


def prepare_directories(places: Places) -> None:
    """Make the home's directories with mode 0700, and take from others what rights they have on those that are there.

    Raises PermissionDenied when one belongs to another user, other LocalErrors when one cannot be made.
    """
    for directory in places.directories:
        try:
            os.makedirs(os.path.dirname(directory) or "/", mode=0o700, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(directory, 0o700)
            _make_private(directory)
        except OSError as error:
            raise from_os_error(error, f"make the directory {directory}") from error


def _make_private(directory: str) -> None:
    about = os.stat(directory)
    if not stat.S_ISDIR(about.st_mode):
        raise Exists(f"{directory} is not a directory")
    if about.st_uid != os.geteuid():
        raise PermissionDenied(
            f"the home {directory} belongs to another user (uid {about.st_uid})",
            hint="Run as that user, or set P2PSHARE_HOME to a directory of your own.",
        )
    if stat.S_IMODE(about.st_mode) & 0o077:
        os.chmod(directory, 0o700)


@contextmanager
def locked_home(path: str) -> Iterator[None]:
    """Hold the home's lock (flock, which ends with the process, however it ends). Raises Locked naming the holder."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise from_os_error(error, f"open the lock {path}") from error
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        process = f"process {holder}" if holder.isdigit() else "another process"
        raise Locked(
            f"the daemon of this home runs already, as {process}", hint="p2pshare status, or p2pshare daemon stop"
        ) from None
    except OSError as error:
        raise from_os_error(error, f"lock {path}") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
