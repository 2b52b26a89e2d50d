"""The error kinds that the daemon, the CLI and scripts agree on, and the one error pure parsers raise.

A kind is stable: scripts match on it. Its exit code is what the CLI ends with (EXPERIENCE, "Exit codes").
"""

from __future__ import annotations

from dataclasses import dataclass


class ProtocolError(Exception):
    """Base of what the sans-IO parts raise."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what the protocol does not allow. The only error that a stranger's bytes can cause."""


class LocalProtocolError(ProtocolError):
    """We asked a protocol object for something it does not allow in its state: a defect of ours."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error: its exit code, whether trying again later can help, and what it means in one sentence."""

    exit_code: int
    retryable: bool
    meaning: str


KINDS: dict[str, Kind] = {
    "internal": Kind(1, False, "A defect in p2pshare; the log has the details."),
    "failed": Kind(1, True, "The operation could not be done; the message says why."),
    "usage": Kind(2, False, "The request is not one that p2pshare understands."),
    "config": Kind(2, False, "The configuration has an unknown key or a bad value."),
    "daemon-not-running": Kind(3, True, "No daemon answers at this home's control socket."),
    "permission": Kind(4, False, "The operating system or the owner of the home forbids it."),
    "not-found": Kind(5, False, "There is no such file, item, job, peer or provider."),
    "timeout": Kind(6, True, "The time limit passed before there was an answer."),
    "partial": Kind(7, True, "Some of it was done; the message says what was not."),
    "verification-failed": Kind(8, True, "Bytes did not match the CID that names them."),
    "changed": Kind(8, False, "A shared file is not what it was when it was shared."),
    "disk-full": Kind(9, True, "There is no room on the disk."),
    "quota": Kind(9, True, "The configured quota has no room."),
    "blocked": Kind(10, False, "A rule of this node forbids it."),
    "exists": Kind(11, False, "Something is already there, and it is not replaced unasked."),
    "locked": Kind(11, True, "Another process holds this home."),
    "unreachable": Kind(12, True, "No peer could be reached over the network."),
    "version-mismatch": Kind(13, False, "The client and the daemon are of versions that do not fit."),
    "cancelled": Kind(130, True, "It was cancelled or interrupted."),
}
