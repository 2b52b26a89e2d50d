"""File descriptors that connections must leave to the control socket, the catalogue and the files that are served.

The kernel gives the lowest free number, so the number of a new descriptor says how many are in use at least.
"""

from __future__ import annotations

import errno
import os
import resource

MOST = 64  # kept free of connections, or a quarter of all when there are few


def spare(descriptor: int) -> bool:
    """False when a connection with this descriptor would leave too few for the rest of the process."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit == resource.RLIM_INFINITY or descriptor < limit - min(MOST, limit // 4)


def check(descriptor: int) -> None:
    """Raises OSError(EMFILE) when it is not to spare."""
    if not spare(descriptor):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
