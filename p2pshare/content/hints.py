"""The errors of a destination's disk, with what to do about each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from p2pshare.errors import DiskFull, Exists, LocalError, NotFound, PermissionDenied, from_os_error

HINTS: Final[dict[type[LocalError], str]] = {
    Exists: "--overwrite replaces it, -o chooses another name",
    PermissionDenied: "choose another place with -o",
    DiskFull: "make room, or choose another disk with -o; the job goes on from where it stopped",
    NotFound: "make the directory first, or choose another place with -o",
}


@contextlib.contextmanager
def mapped(doing: str) -> Iterator[None]:
    """Map OSErrors at the edge, with what to do about each."""
    try:
        yield
    except OSError as error:
        mapped = from_os_error(error, doing)
        mapped.hint = HINTS.get(type(mapped), "")
        raise mapped from error
