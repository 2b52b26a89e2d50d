"""What a peer shares, in pages: the request and the end of its answer. protocols/index.md, "Browsing"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgpack

from .errors import RemoteProtocolError
from .index_messages import LENGTH, MAX_PAGE_ROWS
from .query_model import MAX_TIME

OP: Final = "browse"
MAX_ROWS: Final = MAX_PAGE_ROWS  # of an answer: one page, at most MAX_ROW bytes each


@dataclass(frozen=True, slots=True)
class Browse:
    """Asks for `limit` items (0: only how new the newest is) behind `after`, a number from the last answer or 0."""

    after: int = 0
    limit: int = MAX_ROWS


def encode(request: Browse) -> bytes:
    """The one frame that an asker sends."""
    return _frame({"op": OP, "after": request.after, "limit": request.limit})


def read(message: dict[str, Any]) -> Browse:
    """The request of a frame whose `op` is "browse"; more than MAX_ROWS counts as so many. Raises
    RemoteProtocolError."""
    after, limit = message.get("after"), message.get("limit")
    for value, most in ((after, MAX_TIME), (limit, 2**32)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise RemoteProtocolError("a request for what is shared has no number where one belongs")
    assert isinstance(after, int)
    assert isinstance(limit, int)
    return Browse(after, min(limit, MAX_ROWS))


def encode_end(*, complete: bool, after: int, newest: int) -> bytes:
    """`after`: the number of the last item told, 0 when none was; `newest`: of the last there is; `complete`: no more
    stands behind."""
    return _frame({"end": True, "complete": complete, "after": after, "newest": newest})


def _frame(message: dict[str, Any]) -> bytes:
    body: bytes = msgpack.packb(message)
    return len(body).to_bytes(LENGTH, "big") + body
