"""/p2pshare/index/1.0.0, hot answers: what is asked often is pushed to nodes around. See protocols/index.md, "Hot"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from . import terms
from .errors import RemoteProtocolError
from .index_messages import LENGTH, MAX_LIMIT
from .index_postings import MAX_ENTRIES, MAX_FRAME
from .item_record import MAX_BODY, PUBLISHER, SIGNATURE, Signed
from .query_model import Query

OP: Final = "hot"
ASKS: Final = 8  # in a window, of the same question: then it is hot
WINDOW: Final = 60.0  # seconds
LIFE: Final = 300.0  # seconds for which a copy is told
AROUND: Final = 64  # nodes nearest to the term's key that get one
MAX_BYTES: Final = MAX_FRAME - 8192  # of the records of a copy
MAX_COPIES: Final = 128  # kept at a node: 7 MiB at most
MAX_COUNTED: Final = 4096  # questions that are counted at a node


@dataclass(frozen=True, slots=True)
class Hot:
    """The answer of a storing node to `query` at `term`, with at most `limit` records; signed records as they are."""

    term: str
    query: Query
    limit: int
    records: tuple[Signed, ...]
    complete: bool


def question(term: str, query: Query) -> bytes:
    """Two questions are the same when this is."""
    return bytes(msgpack.packb([term, query.to_wire()]))


def trimmed(found: Iterable[Signed]) -> tuple[tuple[Signed, ...], bool]:
    """As many records as a copy has room for, and whether that is all of them."""
    kept: list[Signed] = []
    room = MAX_BYTES
    for one in found:
        room -= len(one.body) + PUBLISHER + SIGNATURE + 12
        if room < 0 or len(kept) == MAX_ENTRIES:
            return tuple(kept), False
        kept.append(one)
    return tuple(kept), True


def encode(hot: Hot) -> bytes:
    """A frame with its length."""
    body: bytes = msgpack.packb(
        {
            "op": OP,
            "term": hot.term,
            "find": hot.query.to_wire(),
            "limit": hot.limit,
            "complete": hot.complete,
            "records": [[one.publisher, one.body, one.signature] for one in hot.records],
        }
    )
    return len(body).to_bytes(LENGTH, "big") + body


def read(message: dict[str, Any]) -> Hot:
    """Of a map from `index_postings.unpack`. No signature is looked at. Raises RemoteProtocolError."""
    term, limit, complete, rows = (message.get(key) for key in ("term", "limit", "complete", "records"))
    if not isinstance(term, str) or not terms.is_term(term):
        raise RemoteProtocolError("a hot answer has no term")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
        raise RemoteProtocolError("a hot answer has no limit")
    if not isinstance(complete, bool) or not isinstance(rows, list) or not 1 <= len(rows) <= min(MAX_ENTRIES, limit):
        raise RemoteProtocolError("a hot answer has no records, or too many")
    return Hot(term, Query.from_wire(message.get("find")), limit, tuple(_signed(row) for row in rows), complete)


def _signed(row: object) -> Signed:
    if not isinstance(row, list) or len(row) != 3 or not all(isinstance(part, bytes) for part in row):
        raise RemoteProtocolError("a record of a hot answer is none")
    publisher, body, signature = row
    if len(publisher) != PUBLISHER or len(body) > MAX_BODY or len(signature) != SIGNATURE:
        raise RemoteProtocolError("a record of a hot answer has the wrong length")
    return Signed(publisher, body, signature)
