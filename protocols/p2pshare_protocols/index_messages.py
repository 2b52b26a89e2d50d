"""/p2pshare/index/1.0.0, the tier of connected peers: the frames. The specification is protocols/index.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack

from .cid import CID
from .errors import LocalProtocolError, RemoteProtocolError
from .peerid import peer_id_from_bytes, peer_id_to_bytes
from .query_model import MAX_SIZE, MAX_TIME, TYPES, Query, Record
from .text import clean

PROTOCOL: Final = "/p2pshare/index/1.0.0"
LENGTH: Final = 4  # bytes of a frame's length, u32 big-endian
MAX_REQUEST: Final = 4 << 10  # bytes
MAX_ROW: Final = 1 << 10  # bytes
MAX_PAGE: Final = 64 << 10  # bytes a frame of an answer: a hostile one then costs at most some MiB of small objects
MAX_PAGE_ROWS: Final = 200
MAX_ANSWER: Final = 256 << 10  # bytes of all frames of an answer
MAX_LIMIT: Final = 1000  # rows that can be asked for
MAX_NAME: Final = 255  # bytes, as a file system has it
MAX_TAGS: Final = 32
_PATH_COMPONENTS: Final = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One result: an item, or a file inside one. `size` in bytes, `created` in unix seconds.

    Inside a directory `root` is the item's CID and `path` leads from the item's own name to this file's.
    `publisher` is a peer ID, or "" when the answering peer does not say. `sources`: how many holders it knows, a hint.
    """

    cid: CID
    name: str
    size: int
    type: str = "other"
    kind: str = "file"  # or "directory"
    root: CID | None = None
    path: tuple[str, ...] = ()
    mime: str = ""
    tags: tuple[str, ...] = ()
    title: str = ""
    created: float = 0.0
    publisher: str = ""
    sources: int = 1

    def record(self) -> Record:
        """What a query is asked about."""
        return Record(
            name=self.name,
            path="/".join(self.path[:-1]),
            tags=self.tags,
            title=self.title,
            type=self.type,
            size=self.size,
            created=self.created,
            publisher=self.publisher,
        )


@dataclass(frozen=True, slots=True)
class Page:
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class End:
    """The answer is over; `complete` says that nothing that matches was left out.

    Of a page of what a peer shares also `after`, what to ask behind for the next one (0: the peer did not answer), and
    `newest`, which grows when something is shared.
    """

    complete: bool
    after: int = 0
    newest: int = 0


def frame_length(head: bytes | bytearray, limit: int) -> int:
    """The length of the frame that `head` (LENGTH bytes) announces. Raises RemoteProtocolError over `limit`."""
    length = int.from_bytes(head, "big")
    if not 0 < length <= limit:
        raise RemoteProtocolError(f"a frame of {length} bytes, where 1 to {limit} are allowed")
    return length


def encode_request(query: Query, limit: int) -> bytes:
    """The one frame that an asker sends. Raises LocalProtocolError when it does not fit."""
    body: bytes = msgpack.packb({"query": query.to_wire(), "limit": max(1, min(limit, MAX_LIMIT))})
    if len(body) > MAX_REQUEST:
        raise LocalProtocolError("a query that was parsed does not fit a request")
    return _frame(body)


def decode_request(body: bytes) -> tuple[Query, int]:
    """(query, limit) of a frame's body. Raises RemoteProtocolError. Unknown keys beside `query` are ignored."""
    message = _decode(body, MAX_REQUEST)
    limit = _number(message, "limit", 1, 2**32)
    return Query.from_wire(message.get("query")), min(limit, MAX_LIMIT)


def encode_row(row: Row) -> bytes | None:
    """A row as it stands in a page, or None when it cannot be told (its name is not UTF-8 or far too long).

    What makes it bigger than MAX_ROW is left out, the least needed first: mime, title, tags, the way into the root.
    """
    for smaller in ({}, {"mime": ""}, {"title": ""}, {"tags": ()}, {"root": None, "path": ()}):
        row = replace(row, **smaller)
        try:
            packed: bytes = msgpack.packb(_row_fields(row))
        except UnicodeEncodeError:  # a path that is not UTF-8: the CID alone still leads to the file
            row = replace(row, root=None, path=())
            continue
        if len(packed) <= MAX_ROW and len(row.name.encode()) <= MAX_NAME:
            return packed
    return None


def encode_pages(rows: Iterable[bytes]) -> tuple[list[bytes], bool]:
    """Rows from `encode_row` as frames, and whether all of them had room in an answer."""
    frames: list[bytes] = []
    page: list[bytes] = []
    room = MAX_ANSWER - 64  # the end's frame
    size = 0
    everything = True
    for row in rows:
        if len(page) == MAX_PAGE_ROWS or size + len(row) > MAX_PAGE - 16:
            frames.append(_page(page))
            page, size = [], 0
        if room < len(row) + 32 * (not page):
            everything = False
            break
        room -= len(row) + 32 * (not page)
        page.append(row)
        size += len(row)
    if page:
        frames.append(_page(page))
    return frames, everything


def encode_end(*, complete: bool) -> bytes:
    return _frame(msgpack.packb({"end": True, "complete": complete}))


def decode_answer(body: bytes, answerer: str) -> Page | End:
    """One frame's body of an answer from the peer `answerer`; every text in it is cleaned.

    Raises RemoteProtocolError.
    """
    message = _decode(body, MAX_PAGE)
    if message.get("end") is True:
        complete = message.get("complete")
        if not isinstance(complete, bool):
            raise RemoteProtocolError("an answer's end does not say whether it is complete")
        return End(complete, *(_number(message, key, 0, MAX_TIME, default=0) for key in ("after", "newest")))
    rows = message.get("rows")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_PAGE_ROWS:
        raise RemoteProtocolError("an answer has neither rows nor an end")
    return Page(tuple(_row(row, answerer) for row in rows))


def _row_fields(row: Row) -> dict[str, Any]:
    fields: dict[str, Any] = {"cid": row.cid.v1.binary, "name": row.name, "size": row.size, "type": row.type}
    if row.kind == "directory":
        fields["dir"] = True
    if row.root is not None:
        fields |= {"root": row.root.v1.binary, "path": list(row.path)}
    if row.tags:
        fields["tags"] = list(row.tags[:MAX_TAGS])
    if row.created:
        fields["created"] = int(row.created)
    if row.publisher:
        fields["publisher"] = peer_id_to_bytes(row.publisher)
    if row.sources != 1:
        fields["sources"] = row.sources
    return fields | {key: getattr(row, key) for key in ("mime", "title") if getattr(row, key)}


def _row(message: object, answerer: str) -> Row:
    if not isinstance(message, dict):
        raise RemoteProtocolError("a row is not a map")
    kind = _text(message, "type", 16, required=True)
    root = _cid(message, "root") if "root" in message else None
    name = _text(message, "name", MAX_NAME, required=True)
    return Row(
        cid=_cid(message, "cid"),
        name=clean(name, MAX_NAME),
        size=_number(message, "size", 0, MAX_SIZE),
        type=kind if kind in TYPES else "other",
        kind="directory" if message.get("dir") is True else "file",
        root=root,
        path=_path(message.get("path"), name) if root is not None else (),
        mime=clean(_text(message, "mime", 128), 128),
        tags=tuple(clean(tag, 128) for tag in _tags(message.get("tags", []))),
        title=clean(_text(message, "title", 512), 512),
        created=float(_number(message, "created", 0, MAX_TIME, default=0)),
        publisher=_publisher(message, answerer),
        sources=_number(message, "sources", 0, 2**31, default=1),
    )


def _publisher(message: dict[str, Any], answerer: str) -> str:
    """Rows carry no signature yet: only what the peer we are talking to says of itself is believed."""
    claimed = message.get("publisher")
    if claimed is None:
        return ""
    if not isinstance(claimed, bytes):
        raise RemoteProtocolError("a publisher is not a peer ID")
    return answerer if peer_id_from_bytes(claimed) == answerer else ""


def _path(value: object, name: str) -> tuple[str, ...]:
    """The way from the item's name to the file's. Not cleaned, since it must lead there; a link quotes it."""
    if not isinstance(value, list) or not 2 <= len(value) <= _PATH_COMPONENTS or value[-1] != name:
        raise RemoteProtocolError("a row's path does not lead from an item to its name")
    for part in value:
        if not isinstance(part, str) or part in ("", ".", "..") or "/" in part or "\0" in part:
            raise RemoteProtocolError("a row's path has a component that is not a name")
    return tuple(value)


def _tags(value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_TAGS or not all(isinstance(tag, str) for tag in value):
        raise RemoteProtocolError("a row's tags are not a short list of texts")
    return value


def _cid(message: dict[str, Any], key: str) -> CID:
    value = message.get(key)
    if not isinstance(value, bytes):
        raise RemoteProtocolError("a row has no CID")
    return CID.from_binary(value)


def _text(message: dict[str, Any], key: str, limit: int, *, required: bool = False) -> str:
    value = message.get(key, None if required else "")
    if not isinstance(value, str) or len(value) > limit or (required and not value):
        raise RemoteProtocolError(f"a row's {key} is not a text of at most {limit} characters")
    return value


def _number(message: dict[str, Any], key: str, least: int, most: int, default: int | None = None) -> int:
    value = message.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise RemoteProtocolError(f"{key} is not a whole number in range")
    return value


def _page(rows: list[bytes]) -> bytes:
    """{"rows": [...]} around rows that are packed already."""
    packer = msgpack.Packer()
    head = packer.pack_map_header(1) + packer.pack("rows") + packer.pack_array_header(len(rows))
    return _frame(head + b"".join(rows))


def _frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH, "big") + body


def _decode(body: bytes, limit: int) -> dict[str, Any]:
    if len(body) > limit:
        raise RemoteProtocolError("a frame is too long")
    try:
        message = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_str_len=MAX_ROW,
            max_bin_len=MAX_ROW,
            max_array_len=MAX_PAGE_ROWS,
            max_map_len=32,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteProtocolError("a frame is not msgpack within the limits") from error
    if not isinstance(message, dict):
        raise RemoteProtocolError("a frame is not a map")
    return message
