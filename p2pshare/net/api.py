"""What the rest of the daemon sees of the network. Nothing above `net` knows libp2p; it knows this.

A peer is named by its peer ID as text (base58btc, e.g. "12D3Koo..."); an address is a multiaddr as text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import trio

from p2pshare.errors import Unreachable


class Stream(trio.abc.HalfCloseableStream):
    """One multiplexed, secured stream to a peer.

    `receive_some` returns b"" only after the peer half-closed properly; a reset, a lost connection or a truncation
    raises `trio.BrokenResourceError`, never a clean end. `aclose` sends what was accepted and closes; leaving by
    an exception or `reset` aborts at once.
    """

    peer_id: str
    protocol: str

    @abstractmethod
    async def reset(self) -> None:
        """Abort both directions now; the peer sees a reset. Never waits for the peer."""

    async def receive_into(self, view: bytearray | memoryview) -> int:
        """Fill a writable buffer with what has come, at least one byte; the count, 0 after the peer's proper end."""
        target = memoryview(view).cast("B")
        data = await self.receive_some(len(target))
        target[: len(data)] = data
        return len(data)

    @property
    def connection_received(self) -> int:
        """Bytes that came on the connection under it, of all its streams."""
        return 0

    def abandon_connection(self) -> None:
        """Ends the connection under it, and all its streams, without a word to the peer: it has gone silent."""

    @abstractmethod
    async def receive_exactly(self, count: int) -> bytes:
        """Exactly `count` bytes. Raises trio.BrokenResourceError when the stream ends before."""


StreamHandler = Callable[[Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connected peer, as `peers list` shows it."""

    peer_id: str
    address: str
    direction: Literal["in", "out"]
    since: float  # seconds, trio clock
    agent: str = ""
    protocols: tuple[str, ...] = ()
    rtt: float | None = None  # seconds
    bytes_in: int = 0
    bytes_out: int = 0
    muxer: str = ""
    security: str = ""
    listen_addresses: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A peer was connected, identified (its protocols are known now) or disconnected."""

    what: Literal["connected", "identified", "disconnected"]
    peer_id: str


@dataclass(frozen=True, slots=True)
class Reachability:
    """Whether others can reach this node from outside; "private" where there is no outside. `why`: half a sentence."""

    state: Literal["private", "direct", "no", "unknown"]
    why: str


class Network(ABC):
    """The node on the network. Made by `p2pshare.net.open_network`, an async context manager."""

    peer_id: str

    @abstractmethod
    def addresses(self) -> list[str]:
        """Addresses that can be dialled (never unspecified ones), each ending in /p2p/PEER_ID."""

    @abstractmethod
    def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Serve `protocol`. An exception of the handler resets the stream, is logged, and ends nothing else."""

    def unhandle(self, protocol: str) -> None:
        """Serve `protocol` no more, and tell peers so. Streams that are open go on."""
        raise NotImplementedError

    def reachability(self) -> Reachability:
        return Reachability("private", "nothing is known of an outside")

    async def reachability_changed(self, known: Reachability) -> None:
        """Returns once `reachability()` is not `known`."""
        await trio.sleep_forever()

    @abstractmethod
    async def open_stream(self, peer_id: str, protocols: Sequence[str], *, timeout: float = 10.0) -> Stream:
        """A stream on the first protocol that the peer speaks, dialling it first when needed.

        Raises Unreachable, TimedOut, or RemoteError(kind="failed") when it speaks none of them.
        """

    async def open_stream_beside(self, peer_id: str, protocols: Sequence[str], *, timeout: float = 10.0) -> Stream:
        """The same on a connection of its own, made beside those to the peer and closed with the stream.

        While nothing answers at all, a new attempt is begun every half second: a link that comes back is found at
        once, where TCP's timers on the old connections have backed off to many seconds. Raises as `open_stream`.
        """
        raise Unreachable(f"no second connection to {peer_id} can be made")

    @abstractmethod
    async def connect(self, address: str, *, timeout: float = 10.0) -> str:
        """Dial a multiaddr ending in /p2p/ID; returns the peer ID. Raises UsageError, Unreachable, TimedOut."""

    @abstractmethod
    async def disconnect(self, peer_id: str) -> None: ...

    def protect(self, peer_id: str, why: str) -> None:  # noqa: B027 - a network without limits has nothing to do
        """Keeps connections to the peer, also idle ones when there are many, until each `why` is taken back."""

    def unprotect(self, peer_id: str, why: str) -> None:  # noqa: B027
        """Takes one `why` back."""

    @abstractmethod
    def peers(self) -> list[PeerInfo]: ...

    @abstractmethod
    def is_connected(self, peer_id: str) -> bool: ...

    @abstractmethod
    def protocols_of(self, peer_id: str) -> frozenset[str]:
        """What identify said the peer speaks; empty when not known yet."""

    @abstractmethod
    def add_addresses(self, peer_id: str, addresses: Sequence[str], *, ttl: float = 3600.0) -> None:
        """Remember where a peer may be dialled. Bounded per peer; addresses that cannot be dialled are dropped."""

    @abstractmethod
    def addresses_of(self, peer_id: str) -> list[str]:
        """Known addresses of a peer, without the /p2p suffix."""

    @abstractmethod
    def events(self) -> AbstractContextManager[trio.MemoryReceiveChannel[PeerEvent]]:
        """A bounded subscription (1024 events; a subscriber that lags loses the oldest) to peers' coming and going."""

    @abstractmethod
    def status(self) -> dict[str, object]:
        """For `status`: {"listen": [...], "reachable": "direct|relay|no|unknown", "rates": {"in","out"}, ...}."""
