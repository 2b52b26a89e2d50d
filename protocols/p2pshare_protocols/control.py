"""The control socket's framing and messages, for both sides (specification: protocols/control.md).

    bytes -> framing_of -> MessageReader -> plain trees -> parse_request (daemon) or parse_reply (client)

Goals: one parser for daemon and client; nothing is parsed that is over its bounds; a bad line costs that line only.
Non-goals: HTTP (the daemon's, with h11), what the methods mean (p2pshare.control.registry).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NoReturn, TypeAlias

import msgpack

from p2pshare_protocols.errors import KINDS, RemoteProtocolError

MAX_REQUEST = 1 << 20  # bytes of one request
MAX_REPLY = 64 << 20  # bytes of one reply; what a client takes from its own daemon
MAX_DEPTH = 32  # nested lists and maps in one message
MAX_ENTRIES = 1 << 14  # entries of one list or map in a request: msgpack reserves room before it reads them
MAX_REPLY_ENTRIES = 1 << 20
MAX_ID = 256  # characters of a request's id

# JSON-RPC 2.0, section 5.1; -32000 is every error of ours, told apart by data.kind.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
APPLICATION_ERROR = -32000

RequestId: TypeAlias = "int | str | None"


class MalformedMessage(RemoteProtocolError):
    """One message could not be read, but the next one can: answer with an error and go on."""


class Framing(Enum):
    JSON = "json"  # one JSON object a line
    MSGPACK = "msgpack"  # msgpack maps back to back
    HTTP = "http"  # HTTP/1.1


def framing_of(first: int) -> Framing:
    """The framing of a connection, told by its first byte. Raises RemoteProtocolError for any other."""
    if first == 0x7B:  # {
        return Framing.JSON
    if 0x80 <= first <= 0x8F or first in {0xDE, 0xDF}:  # fixmap, map 16, map 32
        return Framing.MSGPACK
    if 0x41 <= first <= 0x5A:  # A to Z
        return Framing.HTTP
    raise RemoteProtocolError(
        f"the first byte is 0x{first:02x}; a connection starts with '{{' (JSON lines), a msgpack map or an HTTP method"
    )


def encode(framing: Framing, message: Mapping[str, object]) -> bytes:
    """One message with its framing. Text that is not UTF-8 (a path, surrogate-escaped) survives in both."""
    if framing is Framing.MSGPACK:
        packed: bytes = msgpack.packb(message, use_bin_type=True, unicode_errors="surrogateescape")
        return packed
    return encode_json(message) + b"\n"


def encode_json(tree: object) -> bytes:
    """Compact JSON in UTF-8 without a newline; NaN and infinities are refused (ValueError)."""
    text = json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate of a path: JSON carries it as \udcXX
        return json.dumps(tree, allow_nan=False, separators=(",", ":")).encode()


def decode_json(data: bytes) -> object:
    """One JSON text within the bounds. Raises MalformedMessage."""
    try:
        tree = json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON in UTF-8: {str(error)[:100]}") from error
    _check_tree(tree)
    return tree


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_tree(tree: object) -> None:
    """Depth within MAX_DEPTH, and only what JSON has: null, booleans, numbers, texts, lists, maps by text."""
    level: list[object] = [tree]
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                if not all(isinstance(key, str) for key in node):  # msgpack's may be bytes
                    raise MalformedMessage("a map's keys must be texts")
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
            elif not (node is None or isinstance(node, (bool, int, float, str))):
                raise MalformedMessage(f"a value of a type that is not allowed ({type(node).__name__})")
        if not below:
            return
        level = below
    raise MalformedMessage(f"nested deeper than {MAX_DEPTH}")


class MessageReader:
    """Messages from the bytes of one connection, in JSON lines or msgpack.

    `feed` then iterate `messages()`: each is a dict. A MalformedMessage raised by the iteration costs that message
    only: iterate again. Any other RemoteProtocolError is final: what follows has no meaning any more.
    """

    def __init__(self, framing: Framing, *, max_message: int = MAX_REQUEST, max_entries: int = MAX_ENTRIES) -> None:
        if framing is Framing.HTTP:
            raise ValueError("HTTP is not read here")
        self.framing = framing
        self._max = max_message
        self._line = bytearray()
        self._seen = 0  # bytes of _line that hold no newline
        # The unpacker's own bound is on what it has not read yet, which a half-read message escapes.
        self._fed = 0
        self._unpacked = 0
        self._unpacker: Any = msgpack.Unpacker(
            max_buffer_size=max_message,
            raw=False,
            unicode_errors="surrogateescape",
            strict_map_key=True,
            max_array_len=max_entries,
            max_map_len=max_entries,
            max_ext_len=0,
        )

    def feed(self, data: bytes) -> None:
        """Take what arrived, at most `max_message` bytes at a time. RemoteProtocolError when over."""
        if self.framing is Framing.JSON:
            self._line += data
            return
        try:
            self._unpacker.feed(data)
            self._fed += len(data)
        except msgpack.BufferFull as error:
            raise self._too_long() from error

    def messages(self) -> Iterator[dict[str, Any]]:
        while True:
            tree = self._next_line() if self.framing is Framing.JSON else self._next_packed()
            if tree is None:
                return
            if not isinstance(tree, dict):
                raise MalformedMessage("not an object")
            yield tree

    def _next_line(self) -> object | None:
        while True:
            end = self._line.find(b"\n", self._seen)
            if (len(self._line) if end < 0 else end) > self._max:
                raise self._too_long()
            if end < 0:
                self._seen = len(self._line)
                return None
            line = bytes(self._line[:end])
            del self._line[: end + 1]
            self._seen = 0
            if line.strip():
                tree = decode_json(line)
                if tree is None:
                    raise MalformedMessage("not an object")
                return tree

    def _next_packed(self) -> object | None:
        try:
            tree: object = self._unpacker.unpack()
        except msgpack.OutOfData:
            if self._fed - self._unpacked > self._max:
                raise self._too_long() from None
            return None
        except (ValueError, msgpack.UnpackException, RecursionError, TypeError) as error:
            raise RemoteProtocolError(f"not msgpack: {str(error)[:100] or type(error).__name__}") from error
        begun, self._unpacked = self._unpacked, self._unpacker.tell()
        if self._unpacked - begun > self._max:
            raise self._too_long()
        if not isinstance(tree, dict):
            raise RemoteProtocolError("not a msgpack map")
        _check_tree(tree)
        return tree

    def _too_long(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"a message is longer than {self._max} bytes")


@dataclass(frozen=True, slots=True)
class Request:
    """A call by name. `id` None is a notification: it gets no answer."""

    id: RequestId
    method: str
    params: dict[str, Any]


class InvalidRequest(RemoteProtocolError):
    """A message that is no JSON-RPC 2.0 request; `id` is its id when that much could be read."""

    def __init__(self, message: str, *, id: RequestId = None, code: int = INVALID_REQUEST) -> None:
        super().__init__(message)
        self.id = id
        self.code = code


def parse_request(message: Mapping[str, Any]) -> Request:
    """The daemon's side. Raises InvalidRequest. Parameters are by name only."""
    id = message.get("id")
    if isinstance(id, bool) or not isinstance(id, (int, str, type(None))):
        raise InvalidRequest("id must be a whole number or a text")
    if (isinstance(id, str) and len(id) > MAX_ID) or (isinstance(id, int) and abs(id) >= 2**63):
        raise InvalidRequest("id is too long")
    unknown = message.keys() - {"jsonrpc", "id", "method", "params"}
    if unknown:
        raise InvalidRequest(f"unknown member {min(unknown)!r:.100}", id=id)
    if message.get("jsonrpc", "2.0") != "2.0":
        raise InvalidRequest('jsonrpc must be "2.0"', id=id)
    method = message.get("method")
    if not isinstance(method, str):
        raise InvalidRequest("method must be a text", id=id)
    params = message.get("params")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise InvalidRequest("params must be an object: parameters are by name", id=id, code=INVALID_PARAMS)
    return Request(id, method, params)


def request(id: RequestId, method: str, params: Mapping[str, object]) -> dict[str, object]:
    head: dict[str, object] = {"jsonrpc": "2.0", "id": id, "method": method}
    if id is None:
        del head["id"]
    return head | ({"params": dict(params)} if params else {})


def cancel(id: RequestId) -> dict[str, object]:
    """The notification that ends a stream (or any call in flight) on the same connection."""
    return request(None, "cancel", {"id": id})


def result(id: RequestId, value: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id, "result": value}


def stream_event(id: RequestId, event: Mapping[str, object]) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": "stream", "params": {"id": id, "event": dict(event)}}


def failure(id: RequestId, code: int, message: str, *, kind: str, hint: str = "") -> dict[str, object]:
    """An error response. `kind` is one of p2pshare_protocols.errors.KINDS, which also tells `retryable`."""
    data = {"kind": kind, "hint": hint, "retryable": KINDS[kind].retryable}
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": data}}


@dataclass(frozen=True, slots=True)
class Result:
    id: RequestId
    value: Any


@dataclass(frozen=True, slots=True)
class StreamEvent:
    id: RequestId
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The daemon's error. A kind that this client does not know (a newer daemon's) is kept as it is."""

    id: RequestId
    code: int
    message: str
    kind: str = "failed"
    hint: str = ""
    retryable: bool = False
    exit_code: int = field(default=1)


Reply: TypeAlias = "Result | StreamEvent | Failure"


def parse_reply(message: Mapping[str, Any]) -> Reply:
    """The client's side. Raises RemoteProtocolError. Keys it does not know are left alone: they are only ever added."""
    id = message.get("id")
    if message.get("method") == "stream":
        params = message.get("params")
        if isinstance(params, dict) and isinstance(params.get("event"), dict):
            return StreamEvent(params.get("id"), params["event"])
    elif "result" in message:
        return Result(id, message["result"])
    elif isinstance(message.get("error"), dict):
        return _failure(id, message["error"])
    raise RemoteProtocolError("the daemon sent what is no JSON-RPC 2.0 response")


def _failure(id: RequestId, error: Mapping[str, Any]) -> Failure:
    data = error.get("data")
    data = data if isinstance(data, dict) else {}
    code = error.get("code")
    kind = str(data.get("kind", "failed"))
    known = KINDS.get(kind)
    return Failure(
        id=id,
        code=code if isinstance(code, int) else INTERNAL_ERROR,
        message=str(error.get("message", "the daemon gave no reason")),
        kind=kind,
        hint=str(data.get("hint", "")),
        retryable=bool(data.get("retryable", known.retryable if known else False)),
        exit_code=known.exit_code if known else 1,
    )
