"""multistream-select 1.0: how two peers agree on a protocol before they speak it. See multistream.md.

Goals: bounded (a message has at most 1024 bytes, a dialogue at most 32 proposals), no read past the agreement, and
an initiator that can send its first bytes without waiting. Non-goals: `ls`, which is answered "na".
Source: github.com/multiformats/multistream-select.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from p2pshare_protocols import varint
from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError

VERSION: Final = "/multistream/1.0.0"
REFUSED: Final = "na"
MAX_MESSAGE: Final = 1024  # bytes, the line feed included; no known protocol name has more than 100
MAX_PROPOSALS: Final = 32


def encode(name: str) -> bytes:
    """One message: the varint of its length, the name in UTF-8, a line feed. Raises ValueError on a bad name."""
    body = name.encode() + b"\n"
    if len(body) > MAX_MESSAGE or "\n" in name or not name:
        raise ValueError(f"{name!r} is not a protocol name")
    return varint.encode(len(body)) + body


class MessageReader:
    """Cuts received bytes into messages. It holds at most one unfinished message and what came behind."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer += data

    @property
    def wanted(self) -> int:
        """Bytes that are surely missing to the next message: who reads no more never reads past the agreement."""
        head = bytes(self._buffer[:2])
        if not head or (len(head) < 2 and head[0] > 127):
            return 1
        length = head[0] if head[0] < 128 else (head[0] & 127) + (head[1] << 7)
        return max(1, length + (1 if head[0] < 128 else 2) - len(self._buffer))

    def next(self) -> str | None:
        """The next whole message, or None when more bytes are needed. Raises RemoteProtocolError."""
        head = bytes(self._buffer[:2])
        if not head or (len(head) < 2 and head[0] > 127):
            return None
        if len(head) == 2 and min(head) > 127:
            raise RemoteProtocolError("a protocol name is too long")
        length, start = varint.decode(head)
        if not 1 <= length <= MAX_MESSAGE:
            raise RemoteProtocolError("a protocol name has an impossible length")
        end = start + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return _name(body)

    def take_rest(self) -> bytes:
        """What came behind the last message: it belongs to the protocol that was agreed on."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def _name(body: bytes) -> str:
    if body[-1:] != b"\n":
        raise RemoteProtocolError("a protocol name does not end in a line feed")
    try:
        name = body[:-1].decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("a protocol name is not UTF-8") from None
    if not name or not name.isprintable():
        raise RemoteProtocolError("a protocol name is empty or has control characters")
    return name


class Initiator:
    """Proposes protocols in order of preference until one is accepted.

    start() gives the first bytes to send; receive() takes bytes and gives the next ones. Then `done`: `chosen` is the
    protocol, or None when all were refused. With a single proposal the caller may send that protocol's own bytes
    right behind start()'s: the agreement is then only checked.

    `together` proposals leave with the greeting, so that refusals cost no round trip. Only when the responder is sure
    to skip what comes behind the one it accepts, or to refuse all but the last: see multistream.md.
    """

    def __init__(self, protocols: Sequence[str], *, together: int = 1) -> None:
        if not 1 <= len(protocols) <= MAX_PROPOSALS:
            raise LocalProtocolError("propose between 1 and 32 protocols")
        self._waiting = [encode(name) for name in reversed(protocols)]
        self._names = list(reversed(protocols))
        self._early = max(1, min(together, len(protocols))) - 1  # proposals that leave before they are needed
        self._reader = MessageReader()
        self._greeted = False
        self.done = False
        self.chosen: str | None = None

    def start(self) -> bytes:
        return encode(VERSION) + b"".join(self._waiting[: -2 - self._early : -1])

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Takes what the responder sent, gives what to send now (often nothing). Raises RemoteProtocolError."""
        if self.done:
            raise LocalProtocolError("the negotiation is over")
        self._reader.feed(data)
        out = b""
        while not self.done and (message := self._reader.next()) is not None:
            out += self._answer(message)
        return out

    def _answer(self, message: str) -> bytes:
        if not self._greeted:
            if message != VERSION:
                raise RemoteProtocolError("the peer does not speak multistream-select 1.0")
            self._greeted = True
            return b""
        if message == self._names[-1]:
            self.chosen = message
            self.done = True
            return b""
        if message != REFUSED:
            raise RemoteProtocolError("the peer accepted a protocol that was not proposed")
        self._names.pop()
        self._waiting.pop()
        self.done = not self._names
        if self._early:
            self._early -= 1
            return b""
        return b"" if self.done else self._waiting[-1]

    @property
    def wanted(self) -> int:
        return self._reader.wanted

    def take_rest(self) -> bytes:
        return self._reader.take_rest()


class Responder:
    """Accepts the first proposal that `accepts` says yes to: `chosen`; take_rest() gives its first bytes."""

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        self._accepts = accepts
        self._reader = MessageReader()
        self._greeted = False
        self._refused = 0
        self.chosen: str | None = None

    @property
    def done(self) -> bool:
        return self.chosen is not None

    @property
    def refused(self) -> int:
        """Proposals answered with "na" so far."""
        return self._refused

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Takes what the initiator sent, gives what to send now. Raises RemoteProtocolError, also at 32 refusals."""
        if self.done:
            raise LocalProtocolError("the negotiation is over")
        self._reader.feed(data)
        out = b""
        while not self.done and (message := self._reader.next()) is not None:
            out += self._answer(message)
        return out

    def _answer(self, message: str) -> bytes:
        if not self._greeted:
            if message != VERSION:
                raise RemoteProtocolError("the peer does not speak multistream-select 1.0")
            self._greeted = True
            return encode(VERSION)
        if self._accepts(message):
            self.chosen = message
            return encode(message)
        self._refused += 1
        if self._refused >= MAX_PROPOSALS:
            raise RemoteProtocolError("the peer proposed too many protocols")
        return encode(REFUSED)

    @property
    def wanted(self) -> int:
        return self._reader.wanted

    def take_rest(self) -> bytes:
        return self._reader.take_rest()
