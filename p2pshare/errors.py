"""The daemon's one error tree. Every error has a stable kind (see `p2pshare_protocols.errors.KINDS`).

LocalError: something of ours or of this machine. RemoteError: something a stranger did or did not do.
libp2p's and the operating system's errors are mapped once, where they enter.
"""

from __future__ import annotations

import errno

from p2pshare_protocols.errors import KINDS, Kind


class P2PShareError(Exception):
    """What happened, in one sentence; `hint` says what to do about it."""

    kind = "failed"

    def __init__(self, message: str, *, hint: str = "", kind: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if kind is not None:
            if kind not in KINDS:
                raise ValueError(f"unknown error kind {kind!r}")
            self.kind = kind

    @property
    def about(self) -> Kind:
        return KINDS[self.kind]


class LocalError(P2PShareError):
    """Ours: this machine, this home, this request."""


class RemoteError(P2PShareError):
    """Theirs: a peer lied, vanished, refused or was never there."""

    kind = "unreachable"


class UsageError(LocalError):
    kind = "usage"


class ConfigError(LocalError):
    kind = "config"


class PermissionDenied(LocalError):
    kind = "permission"


class NotFound(LocalError):
    kind = "not-found"


class Exists(LocalError):
    kind = "exists"


class Locked(LocalError):
    kind = "locked"


class DiskFull(LocalError):
    kind = "disk-full"


class QuotaExceeded(LocalError):
    kind = "quota"


class SourceChanged(LocalError):
    """A shared file is not what it was when it was shared."""

    kind = "changed"


class Blocked(LocalError):
    kind = "blocked"


class Cancelled(LocalError):
    kind = "cancelled"


class TimedOut(RemoteError):
    kind = "timeout"


class Unreachable(RemoteError):
    kind = "unreachable"


class NoProvider(RemoteError):
    kind = "not-found"


class VerificationFailed(RemoteError):
    """A peer sent bytes that are not what their CID says."""

    kind = "verification-failed"


_BY_ERRNO: dict[int, type[LocalError]] = {
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.EEXIST: Exists,
    errno.EISDIR: Exists,
    errno.ENOTEMPTY: Exists,
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
}


def from_os_error(error: OSError, doing: str) -> LocalError:
    """Map an OSError once, at the edge. `doing` is a phrase such as "read /home/a/b"."""
    reason = (error.strerror or str(error) or "unknown error").lower()
    return _BY_ERRNO.get(error.errno or 0, LocalError)(f"could not {doing}: {reason}")
