"""One connection to one peer: its streams in and out, bounded, and what is known about the peer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

import trio

from p2pshare.errors import QuotaExceeded, RemoteError, Unreachable
from p2pshare.net import negotiate
from p2pshare.net.api import PeerInfo, StreamHandler
from p2pshare.net.complaints import Complaints
from p2pshare.net.guard import StreamRoom
from p2pshare.net.layers import MuxedStream
from p2pshare.net.stream import NetStream
from p2pshare.net.upgrade import Upgraded
from p2pshare_protocols.errors import ProtocolError
from p2pshare_protocols.multistream import Initiator

_log = logging.getLogger(__name__)

MAX_INBOUND_STREAMS = 256  # handlers at work for one connection, also when their streams are gone; one more is reset
NEGOTIATION_SECONDS = 10.0
_CLOSE_SECONDS = 5.0  # for a handler's stream to hand over what was accepted, before it is reset
_GOODBYE_SECONDS = 0.5


class Connection:
    """A secured, muxed connection. run() serves it until it ends."""

    def __init__(
        self,
        upgraded: Upgraded,
        *,
        address: str,
        direction: Literal["in", "out"],
        handlers: Mapping[str, StreamHandler],
        complaints: Complaints,
        room: StreamRoom,
    ) -> None:
        self.peer_id = upgraded.secure.peer_id
        self.address = address
        self.direction: Literal["in", "out"] = direction
        self.since = trio.current_time()
        self.idle_since = self.since
        self.agent = ""
        self.protocols: frozenset[str] = frozenset()
        self.listen_addresses: tuple[str, ...] = ()
        self.observed: str | None = None  # where the peer says it sees us
        self.closed = False
        self.when_idle: Callable[[], None] = lambda: None  # called when the last stream that we opened was closed
        self.inbound = 0
        self.outbound = 0
        self._upgraded = upgraded
        self._muxer = upgraded.muxer
        self._handlers = handlers
        self._complaints = complaints
        self._room = room
        self._scope = trio.CancelScope()

    async def run(self, *, opened: Callable[[], None]) -> None:
        """Serves the peer's streams until the connection ends; calls `opened` when streams can be opened."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._accept, nursery)
                    nursery.start_soon(self._move)
                    opened()
        finally:
            self.closed = True
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE_SECONDS):
                await self._muxer.aclose()

    async def _move(self) -> None:
        await self._muxer.run()
        self._scope.cancel()

    async def _accept(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                muxed = await self._muxer.accept()
            except (trio.EndOfChannel, trio.BrokenResourceError):
                return
            if self.inbound >= MAX_INBOUND_STREAMS or not self._room.enter(self.inbound):
                nursery.start_soon(muxed.reset)
                continue
            self.inbound += 1
            nursery.start_soon(self._serve, muxed)

    async def _serve(self, muxed: MuxedStream) -> None:
        try:
            await self._serve_one(muxed)
        finally:
            self._room.leave()
            self.inbound -= 1
            self.idle_since = trio.current_time()

    async def _serve_one(self, muxed: MuxedStream) -> None:
        try:
            with trio.fail_after(NEGOTIATION_SECONDS):
                protocol = await negotiate.answer(muxed, self._handlers.__contains__)
        except negotiate.AheadOfRefusal as error:
            _log.debug("a stream of %s went ahead of a refusal: %s", self.peer_id, error)
            with suppress(trio.BrokenResourceError):
                await muxed.send_eof()  # a proper end comes before any reset: our refusal is still to be read
            await muxed.aclose()
            return
        except (ProtocolError, trio.TooSlowError, trio.BrokenResourceError) as error:
            _log.debug("a stream of %s ended in negotiation: %s", self.peer_id, error)
            await muxed.reset()
            return
        handler = self._handlers.get(protocol)
        stream = NetStream(muxed, self.peer_id, protocol)
        try:
            if handler is not None:
                await handler(stream)
        except (trio.BrokenResourceError, RemoteError, ProtocolError) as error:
            _log.debug("%s of %s: %r", protocol, self.peer_id, error)
            await stream.reset()
        except Exception as error:  # noqa: BLE001
            # The wall between a stranger's bytes and the process: no handler's defect ends more than its stream.
            self._complaints.about(f"the handler of {protocol} failed", error)
            await stream.reset()
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE_SECONDS):
                await stream.reset()
            raise
        else:
            await self._finish(stream)

    async def _finish(self, stream: NetStream) -> None:
        with trio.move_on_after(_CLOSE_SECONDS) as scope:
            await stream.aclose()
        if scope.cancelled_caught:
            await stream.reset()

    def _taken_for_granted(self, protocols: Sequence[str]) -> str | None:
        """The one of `protocols` that need not be asked for: the peer said it speaks it, or is one of ours (unless it
        said what it speaks) and there is no choice."""
        if self.protocols:
            return next((name for name in protocols if name in self.protocols), None)
        return protocols[0] if self._upgraded.ours and len(protocols) == 1 else None

    async def open_stream(self, protocols: Sequence[str], *, assume: bool = False) -> NetStream:
        """A stream on the first of `protocols` that the peer takes. Raises Unreachable, RemoteError(kind="failed").

        assume: what the peer surely speaks is not waited for; should it refuse, the first read says so.
        """
        try:
            muxed = await self._muxer.open()
        except trio.BrokenResourceError as error:
            self.closed = True
            raise Unreachable(f"the connection to {self.peer_id} ended") from error
        except QuotaExceeded as error:
            raise Unreachable(f"too many streams are open to {self.peer_id}") from error
        self.outbound += 1
        try:
            if assume and (name := self._taken_for_granted(protocols)) is not None:
                dialogue = Initiator([name])
                await muxed.send_all(dialogue.start())
                return _Outbound(negotiate.Assumed(muxed, dialogue, self.peer_id, name), self, name)
            chosen = await negotiate.propose(muxed, protocols)
            if chosen is None:
                raise RemoteError(f"{self.peer_id} does not speak {' or '.join(protocols)}", kind="failed")
        except trio.BrokenResourceError as error:
            await self._abandon(muxed)
            raise Unreachable(f"{self.peer_id} broke the stream off before it agreed on a protocol") from error
        except ProtocolError as error:
            await self._abandon(muxed)
            raise RemoteError(f"{self.peer_id} broke the protocol: {error}", kind="failed") from error
        except BaseException:
            await self._abandon(muxed)
            raise
        return _Outbound(muxed, self, chosen)

    async def _abandon(self, muxed: MuxedStream) -> None:
        self.release_outbound()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE_SECONDS):
            await muxed.reset()

    def release_outbound(self) -> None:
        self.outbound -= 1
        self.idle_since = trio.current_time()
        if not self.outbound:
            self.when_idle()

    def abandon(self) -> None:
        """Ends run(), without waiting for the peer to take a goodbye."""
        self.closed = True
        self._scope.cancel()

    async def agreed(self) -> None:
        """Waits until the peer has agreed to all layers, the last of which is spoken before. Raises RemoteError."""
        await self._muxer.agreed()

    @property
    def busy(self) -> bool:
        return bool(self.inbound or self.outbound)

    async def aclose(self) -> None:
        """Says goodbye, for at most half a second, and ends run()."""
        self.closed = True
        try:
            with trio.move_on_after(_GOODBYE_SECONDS):
                await self._muxer.aclose()
        finally:
            self._scope.cancel()

    @property
    def congestion(self) -> str:
        """How TCP paces it, as the kernel names it."""
        return self._upgraded.congestion

    @property
    def security(self) -> str:
        return self._upgraded.security

    def traffic(self) -> tuple[int, int]:
        """Bytes (in, out) so far."""
        return self._upgraded.secure.traffic()

    def info(self) -> PeerInfo:
        bytes_in, bytes_out = self.traffic()
        return PeerInfo(
            peer_id=self.peer_id,
            address=self.address,
            direction=self.direction,
            since=self.since,
            agent=self.agent,
            protocols=tuple(sorted(self.protocols)),
            rtt=self._muxer.rtt,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            muxer=self._upgraded.muxer_name,
            security=self._upgraded.security,
            listen_addresses=self.listen_addresses,
        )


class _Outbound(NetStream):
    """A stream we opened: its connection counts it until it is closed."""

    def __init__(self, muxed: MuxedStream, connection: Connection, protocol: str) -> None:
        super().__init__(muxed, connection.peer_id, protocol)
        self._connection: Connection | None = connection
        self._on = connection

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.release_outbound()
            self._connection = None

    @property
    def connection_received(self) -> int:
        return self._on.traffic()[0]

    def abandon_connection(self) -> None:
        self._on.abandon()

    async def aclose(self) -> None:
        self._release()
        await super().aclose()

    async def reset(self) -> None:
        self._release()
        await super().reset()
