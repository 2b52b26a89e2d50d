"""What an exception that ended a runner says to the person who waits for the job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import trio

from p2pshare.errors import P2PShareError


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in an exception group, however deep; nurseries make groups even of one."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def cause(error: BaseException) -> P2PShareError | None:
    """The one of our errors that stands for the whole; None when something unexpected is among them."""
    ours: P2PShareError | None = None
    for leaf in leaves(error):
        if isinstance(leaf, P2PShareError):
            ours = ours or leaf
        elif not isinstance(leaf, trio.Cancelled):
            return None
    return ours


def describe_error(error: P2PShareError) -> dict[str, Any]:
    """{"kind", "message", "hint", "retryable"}, as every interface shows an error."""
    return {
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.about.retryable,
    }
