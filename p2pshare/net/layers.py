"""What a session and a muxer must be for the switch. Ours stand in session.py and muxer.py.

A connection is built from below: TCP, multistream, session, multistream, muxer. Each layer is made over the one below,
so a test can put in its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import trio


class SecureStream(trio.abc.Stream):
    """A byte stream whose other end has proven that it holds the key of `peer_id`.

    `muxer` is the muxer that both agreed on inside the handshake, None when it has to be negotiated.
    """

    peer_id: str
    muxer: str | None = None

    @abstractmethod
    def traffic(self) -> tuple[int, int]:
        """Bytes (in, out) of the connection so far."""


class Session(ABC):
    """A way to secure a connection, offered under its multistream `name`."""

    name: str

    @abstractmethod
    async def secure(
        self, stream: trio.SocketStream, *, initiator: bool, expected: str | None, muxers: Sequence[str]
    ) -> SecureStream:
        """The handshake. `expected` is the peer ID that was dialled, None for an inbound connection.

        Raises RemoteError or RemoteProtocolError when the other side fails it or is another peer,
        trio.BrokenResourceError when the connection ends. The caller bounds the time and closes `stream` then.
        """


class MuxedStream(trio.abc.HalfCloseableStream):
    """One stream of a connection. Ends as `p2pshare.net.api.Stream` says; wakes a blocked call when it is closed."""

    @abstractmethod
    async def reset(self) -> None:
        """Abort both directions, without waiting for the peer."""


class Muxer(ABC):
    """Many streams over one secured connection."""

    @abstractmethod
    async def run(self) -> None:
        """Moves frames until the connection ends, for whatever reason; then returns. Called once, in a task."""

    @abstractmethod
    async def open(self) -> MuxedStream:
        """A new stream, without waiting for the peer. Raises trio.BrokenResourceError when the connection ended."""

    @abstractmethod
    async def accept(self) -> MuxedStream:
        """The next stream that the peer opens. Raises trio.EndOfChannel when the connection ended."""

    @abstractmethod
    async def aclose(self) -> None:
        """Say goodbye if that needs no waiting, and close the connection under it."""


class MuxerMaker(ABC):
    """Makes muxers, offered under their multistream `name`."""

    name: str

    @abstractmethod
    def make(self, stream: SecureStream, *, initiator: bool) -> Muxer: ...
