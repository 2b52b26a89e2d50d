"""The muxer of a connection: it moves bytes between a session and its streams.

`run` reads, writes and keeps alive until the connection ends. All waiting is for events; nothing polls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from p2pshare.errors import QuotaExceeded
from p2pshare.net.muxer_arrivals import Arrivals
from p2pshare.net.muxer_limits import MuxerLimits, ReceiveBudget
from p2pshare.net.muxer_ping import Pings, Progress
from p2pshare.net.muxer_rates import StreamRates
from p2pshare.net.muxer_stream import MuxStream
from p2pshare.net.muxer_turns import Turns
from p2pshare.net.muxer_windows import Windows
from p2pshare.net.session_base import SecureSession
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.yamux import PROTOCOL, Yamux
from p2pshare_protocols.yamux_events import (
    Acknowledged,
    Event,
    Finished,
    Opened,
    Ponged,
    Received,
    WasReset,
    WentAway,
    WindowOpened,
)
from p2pshare_protocols.yamux_frames import NORMAL, PROTOCOL_ERROR

PROTOCOLS = (PROTOCOL,)
_LEAST_UNSENT = 1 << 16


class Muxer:
    """Streams over a session. Start `run` in a nursery; it returns when the connection has ended, and never raises
    for what the other side did: `close_reason` tells ("" for a proper end).

    Streams that the peer opens go to `on_stream`, which must not wait, or else to `accept_stream`.
    """

    def __init__(
        self,
        session: SecureSession,
        *,
        initiator: bool,
        limits: MuxerLimits | None = None,
        process_budget: ReceiveBudget | None = None,
        on_stream: Callable[[MuxStream], None] | None = None,
    ) -> None:
        self.session = session
        self.limits = limits or MuxerLimits()
        self.on_closed = trio.Event()
        self.close_reason = ""
        self.before_reading: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint  # takes what is no frame
        self._initiator = initiator
        self._machine = Yamux(initiator=initiator, max_inbound=self.limits.max_inbound)
        self._budget = ReceiveBudget(self.limits.receive_budget, process_budget)
        self._on_stream = on_stream
        self._offer, self._offered = trio.open_memory_channel[MuxStream](self.limits.max_inbound)
        self._streams: dict[int, MuxStream] = {}
        self._arrivals = Arrivals(self._machine, self._streams, self._on_events)
        self._turns = Turns(self._machine)
        self._windows = Windows(self._machine, self._budget, self.limits, lambda: self.rtt)
        self._rates = StreamRates(self.limits.opens, self.limits.resets)
        self._work = trio.Event()
        self._may_open = trio.Event()
        self._idle = trio.Event()  # nothing waits to be written
        self._pings = Pings(self._send_ping, self._progress, self.limits)
        self._flushing = False
        self._writer_lost = False
        self._polite = False  # close the connection rather than abort it
        self._ended = False
        self._peer_left = False
        self._nursery: trio.Nursery | None = None

    @property
    def rtt(self) -> float | None:
        """The round trip in seconds, smoothed; None until the first answer."""
        return self._pings.rtt

    @property
    def is_leaving(self) -> bool:
        """No stream can be opened any more: the connection has ended, or the peer said goodbye."""
        return self._ended or self._machine.went_away

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    # For the owner of the connection.

    async def run(self) -> None:
        """Pump until the connection ends or is closed. Cancelled, it aborts the connection."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._write_loop)
                nursery.start_soon(self._keep_alive)
                await self._read_loop()
                with trio.move_on_after(self.limits.close_timeout):
                    await self._written()
                self._polite = True
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            self._writer_lost = True
            self._idle.set()
            self._end("the connection was aborted")
            await self._close_session()
            self._budget.close()
            self._offer.close()
            self.on_closed.set()

    async def open_stream(self) -> MuxStream:
        """Open a stream. Waits while 256 of them wait to be accepted by the peer.

        Raises BrokenResourceError when the connection has ended or the peer goes away, QuotaExceeded over our own
        limit.
        """
        while True:
            await trio.lowlevel.checkpoint()
            if self.is_leaving:
                raise trio.BrokenResourceError(self.close_reason or "the connection is closing")
            if self._machine.counts.outbound >= self.limits.max_outbound:
                raise QuotaExceeded(f"{self.limits.max_outbound} streams are open to this peer")
            if self._machine.can_open:
                stream = MuxStream(self, self._machine.open())
                self._streams[stream.id] = stream
                self._windows.first(stream)
                self._poke()
                return stream
            if self._may_open.is_set():
                self._may_open = trio.Event()
            await self._may_open.wait()

    async def accept_stream(self) -> MuxStream:
        """The next stream that the peer opened. Raises trio.EndOfChannel when the connection has ended."""
        return await self._offered.receive()

    def accepted(self) -> trio.MemoryReceiveChannel[MuxStream]:
        """The streams that the peer opens, to go through with `async for`, until the connection has ended."""
        return self._offered

    async def ping(self) -> float:
        """The round trip in seconds. Raises BrokenResourceError when the connection ends first."""
        return await self._pings.ping()

    async def aclose(self) -> None:
        """Tell the peer, deliver what was accepted, and close; within `close_timeout`, whatever the peer does."""
        self._polite = True
        nursery = self._nursery
        try:
            if not self._ended:
                self._machine.go_away(NORMAL)
                self._end("the connection was closed by us", clean=True)
                if nursery is not None:
                    with trio.move_on_after(self.limits.close_timeout):
                        await self._written()
                        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                            await self.session.send_eof()
                        await self.on_closed.wait()
        finally:
            with trio.CancelScope(shield=True):
                if nursery is not None:
                    nursery.cancel_scope.cancel()
                    await self.on_closed.wait()
                else:
                    await self._close_session()
                    self.on_closed.set()

    # For streams.

    def want_send(self, stream: MuxStream) -> None:
        if self._turns.add(stream):
            self._poke()

    def send_window(self, stream: MuxStream) -> int:
        return self._machine.send_window(stream.id)

    def finish(self, stream: MuxStream) -> None:
        if self._machine.is_open(stream.id):
            self._machine.finish(stream.id)
            self._settle(stream)
            self._poke()

    def reset(self, stream: MuxStream) -> None:
        self._machine.reset(stream.id)
        self._settle(stream)
        self._poke()

    def linger(self, stream: MuxStream) -> None:
        """The stream is closed here: reset it unless the peer finishes it soon."""
        if self._nursery is not None and not stream.gone.is_set():
            self._nursery.start_soon(self._linger, stream)

    def hold(self, count: int) -> bool:
        return self._budget.hold(count)

    def lend(self, stream: MuxStream) -> None:
        self._arrivals.lend(stream)

    def release(self, count: int) -> None:
        self._budget.release(count)

    def consumed(self, stream: MuxStream, count: int) -> None:
        if not self._ended and self._windows.used(stream, count):
            self._poke()

    # The pumps.

    async def _read_loop(self) -> None:
        reason = ""
        try:
            await self.before_reading()
            while not self._peer_left and await self.session.receive_to(self._arrivals):
                if self._machine.has_control:
                    self._poke()
                await self._arrivals.settle()
            if not self._machine.went_away and not self._ended:
                reason = "the connection ended without a goodbye"
        except RemoteProtocolError as error:
            if not self._machine.failed:  # it is our rule that was broken, not yamux's
                self._machine.go_away(PROTOCOL_ERROR)
            reason = f"the peer broke the protocol: {error}"
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            reason = f"the connection was lost: {error}"
        self._arrivals.give_up()
        self._end(reason or "the peer closed the connection", clean=not reason)

    async def _write_loop(self) -> None:
        try:
            while True:
                buffers = self._turns.collect()
                if self._machine.can_open:
                    self._may_open.set()
                if not buffers:
                    self._idle.set()
                    self._work = trio.Event()
                    await self._work.wait()
                    continue
                self.session.seal(buffers)
                buffers.clear()
                begun = trio.current_time()
                self._flushing = True
                await self.session.flush()
                self._flushing = False
                if self._turns.adapt(trio.current_time() - begun):
                    self.session.pace(max(self._turns.batch, _LEAST_UNSENT))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._writer_lost = True
            self._idle.set()
            self._end(f"the connection was lost: {error}")
            # What the peer sent before is still read; the reader finds the end by itself.

    async def _written(self) -> None:
        """Wait until all that was accepted is with the kernel."""
        while not self._writer_lost and (self._machine.has_control or self._flushing):
            if self._idle.is_set():  # else somebody waits for it already
                self._idle = trio.Event()
            self._poke()
            await self._idle.wait()

    async def _keep_alive(self) -> None:
        if await self._pings.keep_alive():
            self._end("the peer does not answer any more")
            if self._nursery is not None:
                self._nursery.cancel_scope.cancel()

    async def _linger(self, stream: MuxStream) -> None:
        with trio.move_on_after(self.limits.linger):
            await stream.gone.wait()
        if not stream.gone.is_set():
            self.reset(stream)

    # Events of the machine.

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            self._on_event(event)
        # Only now: the machine is ahead of its events, and the end of a stream may be followed by its reset.
        for event in events:
            if isinstance(event, Finished | WasReset) and event.stream in self._streams:
                self._settle(self._streams[event.stream])

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Received):
            self._on_received(event)
        elif isinstance(event, Opened):
            self._on_opened(event.stream)
        elif isinstance(event, Ponged):
            self._pings.on_pong(event.value)
        elif isinstance(event, WentAway):
            self._on_went_away(event.reason)
        elif isinstance(event, Acknowledged):
            self._may_open.set()
        elif isinstance(event, WasReset):
            self._on_reset(event.stream)
        elif (stream := self._streams.get(event.stream)) is not None:
            if isinstance(event, WindowOpened):
                stream.may_send()
            elif isinstance(event, Finished):
                stream.end()

    def _on_reset(self, id: int) -> None:
        if (stream := self._streams.get(id)) is not None:
            stream.break_off("the stream was reset by the peer", keep=False)
        if (id % 2 == 0) == self._initiator:  # it was the peer's own
            self._rates.reset(trio.current_time())

    def _on_received(self, event: Received) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None and (stream.closed or not stream.deliver(event.data)):
            self.reset(stream)
            stream.break_off("too much is received and not read", keep=False)

    def _on_opened(self, id: int) -> None:
        may_open = self._rates.may_open(trio.current_time())
        if not self._machine.is_open(id):  # reset in the same breath
            return
        stream = MuxStream(self, id)
        self._streams[id] = stream
        self._windows.first(stream)
        if self._ended or not may_open:
            stream.abort("the peer opens too many streams")
        elif self._on_stream is not None:
            self._on_stream(stream)
        else:
            try:
                self._offer.send_nowait(stream)
            except trio.WouldBlock:  # reset before they were accepted, they still wait here
                stream.abort("too many streams wait to be accepted")

    def _on_went_away(self, reason: int) -> None:
        self._may_open.set()
        if reason != NORMAL:
            self._end(f"the peer closed the connection for reason {reason}")
            self._peer_left = True

    # State.

    def _poke(self) -> None:
        self._work.set()

    def _send_ping(self, value: int) -> None:
        self._machine.ping(value)
        self._poke()

    def _progress(self) -> Progress:
        out = self.session.bytes_out
        return Progress(self.session.bytes_in + out, out, self._flushing, self.session.unacknowledged)

    def _settle(self, stream: MuxStream) -> None:
        """Forget a stream of which nothing is left on the wire."""
        if not self._machine.is_open(stream.id) and self._streams.pop(stream.id, None) is not None:
            self._budget.revoke(stream.granted)
            stream.granted = 0
            stream.gone.set()
            self._may_open.set()

    def _end(self, reason: str, *, clean: bool = False) -> None:
        """No stream goes on. Called once for what ended the connection; later reasons are consequences."""
        if self._ended:
            return
        self._ended = True
        self.close_reason = "" if clean else reason
        for stream in list(self._streams.values()):
            stream.break_off(reason, keep=True)
            self._budget.revoke(stream.granted)
            stream.gone.set()
        self._streams.clear()
        self._turns.clear()
        self._pings.end(reason)
        self._may_open.set()
        self._poke()

    async def _close_session(self) -> None:
        """Leave the kernel to deliver what it has, unless we were cancelled; never waiting for the peer."""
        with (
            trio.CancelScope(shield=True),
            trio.move_on_after(self.limits.close_timeout),
            suppress(trio.BrokenResourceError),
        ):
            if self._polite:
                await self.session.aclose()
            else:
                await self.session.abort()


__all__ = ["PROTOCOLS", "MuxStream", "Muxer", "MuxerLimits", "ReceiveBudget"]
