"""/p2pshare/index/1.0.0, postings: store, find, heartbeat and remove. The specification is protocols/index.md.

A request is told from the older one (what a peer itself has) by its key `op`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from . import terms
from .errors import LocalProtocolError, RemoteProtocolError
from .index_messages import LENGTH, MAX_ANSWER, MAX_LIMIT
from .item_record import IDENTITY, MAX_BODY, PUBLISHER, SIGNATURE, Signed, verified
from .peerid import peer_id_to_bytes
from .postings_ask import Named
from .query_model import MAX_TIME, Query

MAX_FRAME: Final = 64 << 10  # bytes of a body, either way
MAX_ENTRIES: Final = 400  # records of a frame
MAX_TERMS: Final = terms.MAX_TERMS_PER_ITEM
MAX_COUNTED: Final = 64  # terms whose counts an answer may tell
MAX_SHARDED: Final = 200  # terms with a full list that the answer to a Store may name
MAX_FULL: Final = 32  # publishers that an answer may name as having more
BUCKETS: Final = 64  # of a digest, by the first six bits of a record's identity
BUCKET: Final = 8  # bytes
_DOMAIN: Final = b"p2pshare index statement 1\0"
_KEYS: Final = 16  # of any map


@dataclass(frozen=True, slots=True)
class Statement:
    """A publisher says that the sending node speaks for it to this storing node, at `time` (unix seconds).

    In a heartbeat `digest` is over all postings that it believes to be there.
    """

    publisher: bytes
    time: int
    signature: bytes
    digest: bytes = b""

    def holds(self, sender: str, storer: str) -> bool:
        """Whether it was made by the publisher, for this sender and this storing node (peer IDs)."""
        return verified(self.publisher, self.signature, _stated(self.publisher, self.time, self.digest, sender, storer))


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and the terms under which it is to be found."""

    signed: Signed
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Store:
    by: Statement
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    by: Statement
    tombstones: tuple[Signed, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    by: Statement


@dataclass(frozen=True, slots=True)
class Only:
    """Of this publisher's records in a bucket these are to stay; what else this sender placed there is published no
    more (a tombstone did not reach the node)."""

    by: Statement
    bucket: int
    identities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Find:
    """Records under `term` that the whole `query` lets through, at most `limit`."""

    term: str
    query: Query
    limit: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Of each record of a Store, or each tombstone of a Remove, how many postings are there now, or went.

    `sharded`: terms of a Store whose lists are full here; their postings are to stand in a shard too. `refused`: of
    each record of a Store the terms under which it has no room, bit n for its nth; () when all were kept.
    """

    counts: tuple[int, ...]
    sharded: tuple[str, ...] = ()
    refused: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """What the storing node has of this publisher: BUCKETS values; all equal means that nothing needs to be sent.

    `sharded`: terms of it whose lists are full here.
    """

    buckets: tuple[bytes, ...]
    sharded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Records:
    """`proven`: of each when its sender was last seen to hold a part of it (unix seconds, 0 never); () when of none.

    A hint: whoever answers may say what it likes.
    """

    records: tuple[Signed, ...]
    proven: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FindEnd:
    """`complete`: nothing that matches was left out. `counts`: postings here of the query's terms, a hint.

    `full`: publishers with as many under the term as one may have, and what is known of them here; the rest stands
    under their overflow.
    `sharded`: the list of the term is full here; there is more in its shards. `hot`: this is a copy of a storing
    node's answer.
    """

    complete: bool
    counts: dict[str, int]
    full: tuple[Named, ...] = ()
    sharded: bool = False
    hot: bool = False


Request = Store | Remove | Heartbeat | Only | Find
Answer = Kept | Digest | Records | FindEnd


def state(private: Ed25519PrivateKey, time: int, sender: str, storer: str, digest: bytes = b"") -> Statement:
    publisher = private.public_key().public_bytes_raw()
    return Statement(publisher, time, private.sign(_stated(publisher, time, digest, sender, storer)), digest)


def _stated(publisher: bytes, time: int, digest: bytes, sender: str, storer: str) -> bytes:
    peers = [peer_id_to_bytes(sender), peer_id_to_bytes(storer)]
    return _DOMAIN + bytes(msgpack.packb([publisher, time, *peers, digest]))


def buckets_of(postings: Iterable[tuple[str, bytes, int]]) -> tuple[bytes, ...]:
    """Of (term, identity, sequence): for each bucket the exclusive or of 8 bytes of SHA-256 of its postings."""
    found = [0] * BUCKETS
    for term, identity, sequence in postings:
        about = b"%b%d " % (identity, sequence) + term.encode("utf-8", "surrogatepass")
        found[bucket_of(identity)] ^= int.from_bytes(hashlib.sha256(about).digest()[:BUCKET], "big")
    return tuple(one.to_bytes(BUCKET, "big") for one in found)


def bucket_of(identity: bytes) -> int:
    return identity[0] >> 2


def digest_of(buckets: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(buckets)).digest()


def encode(message: Request | Answer) -> bytes:
    """A frame with its length. Raises LocalProtocolError when it is too long."""
    body = bytes(msgpack.packb(_fields(message)))
    if len(body) > MAX_FRAME:
        raise LocalProtocolError(f"a frame of {len(body)} bytes")
    return len(body).to_bytes(LENGTH, "big") + body


def _fields(message: Request | Answer) -> dict[str, Any]:
    match message:
        case Store(by, entries):
            about = [[one.signed.body, one.signed.signature, list(one.terms)] for one in entries]
            return {"op": "store", "by": _by(by), "postings": about}
        case Remove(by, tombstones):
            return {"op": "remove", "by": _by(by), "tombstones": [[one.body, one.signature] for one in tombstones]}
        case Heartbeat(by):
            return {"op": "beat", "by": _by(by)}
        case Only(by, bucket, identities):
            return {"op": "only", "by": _by(by), "bucket": bucket, "identities": list(identities)}
        case Find(term, query, limit):
            return {"op": "find", "term": term, "find": query.to_wire(), "limit": limit}
        case Kept(counts, sharded, refused):
            kept: dict[str, Any] = {"kept": list(counts)} | ({"sharded": list(sharded)} if sharded else {})
            return kept | ({"refused": list(refused)} if any(refused) else {})
        case Digest(buckets, sharded):
            return {"digest": b"".join(buckets)} | ({"sharded": list(sharded)} if sharded else {})
        case Records(records, proven):
            rows = [[one.publisher, one.body, one.signature] for one in records]
            return {"records": rows} | ({"proven": list(proven)} if any(proven) else {})
        case FindEnd(complete, counts, full, sharded, hot):
            more: dict[str, Any] = ({"sharded": True} if sharded else {}) | ({"hot": True} if hot else {})
            if full:
                known = [[one.since, one.proven] for one in full]
                more = {"full": [one.publisher for one in full], "known": known} | more
            return {"end": True, "complete": complete, "counts": counts, **more}


def _by(by: Statement) -> list[Any]:
    return [by.publisher, by.time, by.signature, by.digest]


def batches(by: Statement, entries: Iterable[Entry]) -> Iterable[Store]:
    """Store messages that each fit a frame."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        entry_size = len(entry.signed.body) + SIGNATURE + 16 + sum(len(term.encode()) + 3 for term in entry.terms)
        if batch and (len(batch) == MAX_ENTRIES or size + entry_size > MAX_FRAME - 1024):
            yield Store(by, tuple(batch))
            batch, size = [], 0
        batch.append(entry)
        size += entry_size
    if batch:
        yield Store(by, tuple(batch))


def pages(records: Iterable[tuple[Signed, int]]) -> tuple[list[Records], bool]:
    """Records, and when each was proven, as messages that fit a frame; and whether all fit an answer."""
    found: list[Records] = []
    page: list[tuple[Signed, int]] = []
    size, room = 0, MAX_ANSWER - 8192
    for one in records:
        cost = len(one[0].body) + PUBLISHER + SIGNATURE + 12 + 5
        if room < cost:
            return [*found, _page(page)], False
        if page and (len(page) == MAX_ENTRIES or size + cost > MAX_FRAME - 1024):
            found.append(_page(page))
            page, size = [], 0
        page.append(one)
        size += cost
        room -= cost
    return ([*found, _page(page)] if page else found), True


def _page(rows: Sequence[tuple[Signed, int]]) -> Records:
    return Records(tuple(signed for signed, _ in rows), tuple(proven for _, proven in rows))


def unpack(body: bytes) -> dict[str, Any]:
    """A frame's body as a map, within the bounds of every message here. Raises RemoteProtocolError."""
    if len(body) > MAX_FRAME:
        raise RemoteProtocolError("a frame is too long")
    try:
        message = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_str_len=1024,
            max_bin_len=1024,
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_COUNTED,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteProtocolError("a frame is not msgpack within the limits") from error
    if not isinstance(message, dict):
        raise RemoteProtocolError("a frame is not a map")
    return message


def read_request(message: dict[str, Any]) -> Request:
    """Of a map from `unpack` that has `op`. No signature is looked at. Raises RemoteProtocolError."""
    match message.get("op"):
        case "store":
            by = _statement(message.get("by"))
            rows = _list(message.get("postings"), MAX_ENTRIES)
            return Store(by, tuple(_entry(row, by.publisher) for row in rows))
        case "remove":
            by = _statement(message.get("by"))
            rows = _list(message.get("tombstones"), MAX_ENTRIES)
            return Remove(by, tuple(_signed(row, by.publisher) for row in rows))
        case "beat":
            by = _statement(message.get("by"))
            if len(by.digest) != hashlib.sha256().digest_size:
                raise RemoteProtocolError("a heartbeat has no digest")
            return Heartbeat(by)
        case "only":
            by = _statement(message.get("by"))
            kept = tuple(_exactly(one, IDENTITY) for one in _list(message.get("identities"), MAX_ENTRIES))
            return Only(by, _number(message.get("bucket"), BUCKETS - 1), kept)
        case "find":
            limit = min(_number(message.get("limit"), 2**32), MAX_LIMIT)
            return Find(_term(message.get("term")), Query.from_wire(message.get("find")), max(1, limit))
    raise RemoteProtocolError("a request of an unknown sort")


def read_answer(message: dict[str, Any]) -> Answer:
    """Of a map from `unpack`. No signature is looked at. Raises RemoteProtocolError."""
    if "kept" in message:
        counts_of = tuple(_number(one, 2**32) for one in _list(message["kept"], MAX_ENTRIES))
        refused = _as_many(message, "refused", len(counts_of), (1 << MAX_TERMS) - 1)
        return Kept(counts_of, _sharded(message), refused)
    if "digest" in message:
        joined = _bytes(message["digest"], BUCKETS * BUCKET)
        if len(joined) != BUCKETS * BUCKET:
            raise RemoteProtocolError("a digest has the wrong length")
        return Digest(tuple(joined[at : at + BUCKET] for at in range(0, len(joined), BUCKET)), _sharded(message))
    if "records" in message:
        rows = [_list(row, 3, least=3) for row in _list(message["records"], MAX_ENTRIES)]
        found = tuple(_signed(row[1:], _bytes(row[0], PUBLISHER)) for row in rows)
        return Records(found, _as_many(message, "proven", len(found), MAX_TIME))
    complete, counts = message.get("complete"), message.get("counts", {})
    if message.get("end") is not True or not isinstance(complete, bool) or not isinstance(counts, dict):
        raise RemoteProtocolError("an answer of an unknown sort")
    full = _named(message)
    if not isinstance(sharded := message.get("sharded", False), bool):
        raise RemoteProtocolError("an answer does not say whether its list is full")
    known = {_term(term): _number(count, 2**32) for term, count in counts.items()}
    return FindEnd(complete, known, full, sharded, message.get("hot") is True)


def _named(message: dict[str, Any]) -> tuple[Named, ...]:
    keys = [_exactly(one, PUBLISHER) for one in _list(message.get("full", []), MAX_FULL)]
    known = _list(message.get("known", [[0, False]] * len(keys)), len(keys), least=len(keys))
    rows = [_list(row, 2, least=2) for row in known]
    return tuple(Named(key, _number(row[0], MAX_TIME), row[1] is True) for key, row in zip(keys, rows, strict=True))


def _as_many(message: dict[str, Any], key: str, count: int, most: int) -> tuple[int, ...]:
    """A list with one number for each of what it is about; () when it is missing."""
    if key not in message:
        return ()
    return tuple(_number(one, most) for one in _list(message[key], count, least=count))


def _sharded(message: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_term(one) for one in _list(message.get("sharded", []), MAX_SHARDED))


def _statement(value: object) -> Statement:
    publisher, time, signature, digest = _list(value, 4, least=4)
    return Statement(
        _exactly(publisher, PUBLISHER), _number(time, MAX_TIME), _exactly(signature, SIGNATURE), _bytes(digest, 32)
    )


def _entry(value: object, publisher: bytes) -> Entry:
    row = _list(value, 3, least=3)
    found = tuple(_term(term) for term in _list(row[2], MAX_TERMS, least=1))
    if len(set(found)) != len(found):
        raise RemoteProtocolError("a record has a term twice")
    return Entry(_signed(row[:2], publisher), found)


def _signed(row: object, publisher: bytes) -> Signed:
    body, signature = _list(row, 2, least=2)
    return Signed(_exactly(publisher, PUBLISHER), _bytes(body, MAX_BODY), _exactly(signature, SIGNATURE))


def _list(value: object, most: int, least: int = 0) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise RemoteProtocolError("a part of a frame is not a list of the right length")
    return value


def _bytes(value: object, most: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > most:
        raise RemoteProtocolError("a part of a frame is not bytes within the limits")
    return value


def _exactly(value: object, count: int) -> bytes:
    if len(found := _bytes(value, count)) != count:
        raise RemoteProtocolError("a key or signature has the wrong length")
    return found


def _term(value: object) -> str:
    if not isinstance(value, str) or not terms.is_term(value):
        raise RemoteProtocolError("a term is none")
    return value


def _number(value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise RemoteProtocolError("a number is out of range")
    return value
