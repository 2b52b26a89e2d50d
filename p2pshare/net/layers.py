"""What a session and a muxer must be for the switch. Ours stand in session.py and muxer.py; own.py fits them in here.

A connection is built from below: TCP, multistream, session, multistream, muxer. Each layer is made over the one below,
so a test can put in its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from p2pshare_protocols.multistream import Initiator

Buffer = bytes | bytearray | memoryview


class Channel(Protocol):
    """Enough of a stream to negotiate on."""

    async def receive_some(self, max_bytes: int, /) -> bytes | bytearray: ...

    async def send_all(self, data: bytes, /) -> None: ...


class Secure(Channel, Protocol):
    """A connection whose other end has proven that it holds the key of `peer_id`.

    `muxer` is the muxer that both agreed on inside the handshake, None when it has to be negotiated.
    """

    peer_id: str
    muxer: str | None

    def traffic(self) -> tuple[int, int]:
        """Bytes (in, out) of the connection so far."""

    async def abort(self) -> None:
        """Close without waiting for the peer."""


class SessionMaker(ABC):
    """A way to secure a connection, offered under its multistream `name`.

    only_ours: nobody but our own nodes speaks it, so who agrees on it understands what we do to save round trips.
    goes_ahead: it can `secure_ahead`.
    """

    name: str
    only_ours: bool = False
    goes_ahead: bool = False

    @abstractmethod
    async def secure(
        self, stream: trio.SocketStream, *, initiator: bool, expected: str | None, muxers: Sequence[str]
    ) -> Secure:
        """The handshake. `expected` is the peer ID that was dialled, None for an inbound connection.

        Raises RemoteError or RemoteProtocolError when the other side fails it or is another peer,
        trio.BrokenResourceError when the connection ends. The caller bounds the time and closes `stream` then.
        """

    async def secure_ahead(
        self, stream: trio.SocketStream, proposal: Initiator, *, expected: str, muxers: Sequence[str]
    ) -> Secure:
        """`secure` as the initiator, with the first message sent right behind the proposal of this one session.

        Raises what `secure` does, RemoteProtocolError too when the session is refused.
        """
        raise NotImplementedError


class MuxedStream(Protocol):
    """One stream of a connection: a trio.abc.HalfCloseableStream that passes trio's conformance check.

    It ends as `p2pshare.net.api.Stream` says.
    """

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes | bytearray: ...

    async def receive_into(self, view: Buffer, /) -> int: ...

    async def receive_exactly(self, count: int, /) -> bytes: ...

    async def send_all(self, data: Buffer, /) -> None: ...

    async def wait_send_all_might_not_block(self) -> None: ...

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None: ...

    async def reset(self) -> None: ...


class Muxer(ABC):
    """Many streams over one secured connection."""

    @abstractmethod
    async def run(self) -> None:
        """Moves frames until the connection ends, for whatever reason; then returns. Called once, in a task."""

    @abstractmethod
    async def open(self) -> MuxedStream:
        """A new stream. Raises trio.BrokenResourceError when the connection ended, QuotaExceeded over our limit."""

    @abstractmethod
    async def accept(self) -> MuxedStream:
        """The next stream that the peer opens. Raises trio.EndOfChannel when the connection ended."""

    @property
    @abstractmethod
    def rtt(self) -> float | None:
        """The last measured round trip, in seconds. The muxer measures it by itself, and ends a dead connection."""

    async def agreed(self) -> None:  # noqa: B027 - most are agreed on before they are made
        """Waits until the peer has agreed to speak this muxer. Raises RemoteError when it did not."""

    @abstractmethod
    async def aclose(self) -> None:
        """Say goodbye if that needs no waiting, and close the connection under it."""


class MuxerMaker(ABC):
    """Makes muxers, offered under their multistream `name`."""

    name: str

    @abstractmethod
    def make(self, secure: Secure, *, initiator: bool) -> Muxer: ...

    def make_ahead(self, secure: Secure, agreement: Callable[[], Awaitable[None]]) -> Muxer:
        """`make` as the initiator before the peer has agreed: run() awaits `agreement`, which reads the answer and
        raises what reading does or RemoteProtocolError, before it reads anything else."""
        raise NotImplementedError
