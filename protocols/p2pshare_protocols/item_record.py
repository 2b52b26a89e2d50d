"""Item records: what a publisher signs about an item, once. The specification is protocols/index.md, "Item records".

The bytes that are signed are kept and travel as they are; nothing is encoded anew to check a signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from . import terms
from .cid import CID
from .errors import LocalProtocolError, RemoteProtocolError
from .index_messages import Row
from .peerid import peer_id_from_ed25519
from .query_model import MAX_SIZE, MAX_TIME, TYPES, Record
from .text import clean

MAX_RECORD: Final = 512  # bytes of body, publisher and signature together
PUBLISHER: Final = 32  # bytes, an Ed25519 public key
SIGNATURE: Final = 64  # bytes
MAX_BODY: Final = MAX_RECORD - PUBLISHER - SIGNATURE
IDENTITY: Final = 16  # bytes that say which item of a publisher a record is about
_ITEM, _TOMBSTONE = 1, 2
_DOMAIN: Final = b"p2pshare item record 1\0"
OVERFLOW: Final = "@"  # separates words, so that no term begins with it
_OVERFLOW_DOMAIN: Final = b"p2pshare overflow 1\0"
_KEY_DOMAIN: Final = b"p2pshare term key 1\0"


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """An item, or a file inside one: then `root` is the item's CID and `path` leads from the item's name to the file's.

    `sequence`: of two records about one thing the higher one holds. `size` in bytes, `created` in unix seconds.
    """

    cid: CID
    name: str
    size: int
    type: str
    sequence: int
    kind: str = "file"
    root: CID | None = None
    path: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    title: str = ""
    created: int = 0

    @property
    def identity(self) -> bytes:
        root = b"" if self.root is None else self.root.v1.binary
        where = "/".join(self.path[1:]).encode("utf-8", "surrogatepass")
        return hashlib.sha256(self.cid.v1.binary + root + where).digest()[:IDENTITY]

    def record(self) -> Record:
        """What a query is asked about."""
        return Record(
            name=self.name,
            path="/".join(self.path[:-1]),
            tags=self.tags,
            title=self.title,
            type=self.type,
            size=self.size,
            created=float(self.created),
        )

    def terms(self) -> list[str]:
        """The terms that a posting of this record may have, in the order of name, tags, title, type, way."""
        kind = "" if self.type == "other" else self.type
        text = " | ".join((self.name, *self.tags, self.title, kind, *self.path[:-1]))
        return terms.cut(text)

    def row(self, publisher: bytes) -> Row:
        """What a search shows, every text cleaned."""
        return Row(
            cid=self.cid,
            name=clean(self.name, 255),
            size=self.size,
            type=self.type,
            kind=self.kind,
            root=self.root,
            path=self.path,
            tags=tuple(clean(tag, 128) for tag in self.tags),
            title=clean(self.title, 512),
            created=float(self.created),
            publisher=peer_id_from_ed25519(publisher),
            sources=0,
        )


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The thing with this identity is published no more."""

    identity: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Signed:
    """A record or tombstone as it travels and is stored: the exact bytes that were signed."""

    publisher: bytes
    body: bytes
    signature: bytes

    def holds(self) -> bool:
        """Whether the publisher signed this (60 us)."""
        return verified(self.publisher, self.signature, _DOMAIN + self.publisher + self.body)


def term_key(term: str) -> bytes:
    """Where postings of `term` belong, as a multihash: the DHT hashes it once more. It does not say the term."""
    return b"\x12\x20" + hashlib.sha256(_KEY_DOMAIN + term.encode("utf-8", "surrogatepass")).digest()


def overflow(term: str, publisher: bytes) -> str:
    """Where those of a publisher's postings of `term` stand that are more than one may have. No word is like it."""
    about = _OVERFLOW_DOMAIN + publisher + term.encode("utf-8", "surrogatepass")
    return OVERFLOW + hashlib.sha256(about).hexdigest()[:40]


def encode(record: ItemRecord | Tombstone) -> bytes:
    """The canonical body. What makes it too long is left out: title, then tags, then the way into the root.

    Raises LocalProtocolError when the name alone is too long, or a text is not UTF-8.
    """
    if isinstance(record, Tombstone):
        return bytes(msgpack.packb([_TOMBSTONE, record.identity, record.sequence]))
    title, tags, path = record.title, list(record.tags), list(record.path)
    for _ in range(len(tags) + 3):
        try:
            body = bytes(msgpack.packb(_fields(record, title, tags, path)))
        except UnicodeEncodeError:
            raise LocalProtocolError("a name that is not UTF-8 cannot be published") from None
        if len(body) <= MAX_BODY:
            return body
        if title:
            title = ""
        elif tags:
            tags.pop()
        elif len(path) > 2:
            raise LocalProtocolError("the way to a file is too long to be published")
        else:
            break
    raise LocalProtocolError("a name is too long to be published")


def _fields(record: ItemRecord, title: str, tags: list[str], path: list[str]) -> list[Any]:
    root = None if record.root is None else record.root.v1.binary
    about = [record.cid.v1.binary, record.name, record.size, TYPES.index(record.type), record.kind == "directory"]
    return [_ITEM, record.sequence, *about, root, path if root else [], tags, title, record.created]


def sign(record: ItemRecord | Tombstone, private: Ed25519PrivateKey) -> Signed:
    """Raises LocalProtocolError when it cannot be published."""
    publisher = private.public_key().public_bytes_raw()
    body = encode(record)
    return Signed(publisher, body, private.sign(_DOMAIN + publisher + body))


def verified(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature holds; False for keys and signatures that are none."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def decode(body: bytes) -> ItemRecord | Tombstone:
    """The inverse of `encode`, of what a stranger sent: canonical or RemoteProtocolError. No signature is looked at."""
    if len(body) > MAX_BODY:
        raise RemoteProtocolError(f"a record is longer than {MAX_BODY} bytes")
    try:
        fields = msgpack.unpackb(body, raw=False, max_ext_len=0, max_map_len=0, max_array_len=64)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteProtocolError("a record is not msgpack within the limits") from error
    if not isinstance(fields, list) or not fields:
        raise RemoteProtocolError("a record is not a list")
    if fields[0] == _TOMBSTONE and len(fields) == 3:
        found: ItemRecord | Tombstone = Tombstone(_bytes(fields[1]), _number(fields[2], MAX_TIME))
        if len(fields[1]) != IDENTITY:
            raise RemoteProtocolError("a tombstone has no identity")
    elif fields[0] == _ITEM and len(fields) == 12:
        found = _item(fields)
    else:
        raise RemoteProtocolError("a record of an unknown sort")
    try:
        canonical = encode(found) == body
    except LocalProtocolError:
        canonical = False
    if not canonical:
        raise RemoteProtocolError("a record is not in its canonical form")
    return found


def _item(fields: list[Any]) -> ItemRecord:
    _, sequence, cid, name, size, sort, directory, root, path, tags, title, created = fields
    if not isinstance(directory, bool):
        raise RemoteProtocolError("a record does not say whether it is a directory")
    way = _texts(path)
    if (root is None) != (not way) or len(way) == 1:
        raise RemoteProtocolError("a record's way into its root is not one")
    if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in way):
        raise RemoteProtocolError("a record's way has a component that is none")
    if not _text(name):
        raise RemoteProtocolError("a record has no name")
    return ItemRecord(
        cid=CID.from_binary(_bytes(cid)),
        name=name,
        size=_number(size, MAX_SIZE),
        type=TYPES[_number(sort, len(TYPES) - 1)],
        sequence=_number(sequence, MAX_TIME),
        kind="directory" if directory else "file",
        root=None if root is None else CID.from_binary(_bytes(root)),
        path=way,
        tags=_texts(tags),
        title=_text(title),
        created=_number(created, MAX_TIME),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise RemoteProtocolError("a record has something else where a text belongs")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise RemoteProtocolError("a record has something else where a list of texts belongs")
    return tuple(_text(one) for one in value)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise RemoteProtocolError("a record has something else where bytes belong")
    return value


def _number(value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise RemoteProtocolError("a record has a number out of range")
    return value
