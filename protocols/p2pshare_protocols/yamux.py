"""Yamux 1.0.0: many streams in one connection; bytes in, events out. Specified in protocols/yamux.md.

Each stream is in one of these states, by what each side has finished ("we" send, "they" receive from us):

    state          they send DATA   they FIN        they RST   we send DATA   we FIN         we RST
    OPEN           OPEN             REMOTE_CLOSED   CLOSED     OPEN           LOCAL_CLOSED   CLOSED
    LOCAL_CLOSED   LOCAL_CLOSED     CLOSED          CLOSED     -              -              CLOSED
    REMOTE_CLOSED  violation        (no change)     CLOSED     REMOTE_CLOSED  CLOSED         CLOSED
    CLOSED         (forgotten: a late frame is dropped as long as the window we had granted allows it)

`TRANSITIONS` is that table. Whatever is not in it, is a frame for a stream never opened, passes the window, opens
too many streams or floods us, is a violation: RemoteProtocolError, and a GO_AWAY with PROTOCOL_ERROR to send.

Goals: exact accounting of windows; every count bounded; no copy of data (events hold views of the caller's
buffer). Non-goals: when to grant how much window (the driver's `grow`), clocks, fairness.
"""

from __future__ import annotations

from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.yamux_events import (
    TRANSITIONS,
    Acknowledged,
    Event,
    Finished,
    Move,
    Opened,
    Ponged,
    Received,
    State,
    WasReset,
    WentAway,
    WindowOpened,
)
from p2pshare_protocols.yamux_frames import (
    ACK,
    ALL_FLAGS,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    NORMAL,
    PING,
    PROTOCOL_ERROR,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame,
    unpack,
    unpack_from,
)
from p2pshare_protocols.yamux_streams import INITIAL_WINDOW, Body, Counts, Stream

PROTOCOL = "/yamux/1.0.0"
MAX_WINDOW = 16 * 1024 * 1024
"""The largest window that we grant, as go-yamux's; so no frame that fits its window is longer."""
MAX_SEND_WINDOW = 2**32 - 1
MAX_FRAME = 1024 * 1024
"""Bytes of data in a frame that we send: the most that rust-yamux takes."""
MAX_CONTROL = 64 * 1024
"""Bytes of control frames that may wait to be sent: a peer that makes us answer faster than it reads is cut off."""
MAX_GAPS = 256
"""Stream ids that a peer may skip and open later (an implementation that opens streams from several threads)."""
_MAX_ID = 2**32 - 1


class Yamux:
    """One side of a connection. The initiator's streams have odd ids, the other's even ones.

    Control frames that result from any call wait in `control_to_send`. After RemoteProtocolError only that is
    of use: it holds the GO_AWAY.
    """

    def __init__(self, *, initiator: bool, max_inbound: int = 256, max_unacknowledged: int = 256) -> None:
        self.counts = Counts()
        self.went_away = False
        self.failed = False
        self._max_inbound = max_inbound
        self._max_unacknowledged = max_unacknowledged
        self._streams: dict[int, Stream] = {}
        self._next_local = 1 if initiator else 2
        self._next_remote = 2 if initiator else 1
        self._gaps: set[int] = set()
        self._late = 0  # bytes that the peer may still send on streams that we forgot
        self._control = bytearray()
        self._partial = bytearray()  # the beginning of a header
        self._body: Body | None = None

    # What we do.

    @property
    def can_open(self) -> bool:
        """False while too many streams wait for the peer's acknowledgement, and after it went away."""
        waiting = self.counts.unacknowledged >= self._max_unacknowledged or len(self._control) > MAX_CONTROL
        return not (self.went_away or self.failed or waiting or self._next_local > _MAX_ID)

    def open(self) -> int:
        """Open a stream; its id."""
        if not self.can_open:
            raise LocalProtocolError("no stream can be opened now")
        stream = Stream(self._next_local, acknowledged=False)
        self._next_local += 2
        self._streams[stream.id] = stream
        self.counts.outbound += 1
        self.counts.unacknowledged += 1
        self._push(frame(WINDOW_UPDATE, SYN, stream.id, 0))
        return stream.id

    def is_open(self, stream: int) -> bool:
        """False once both sides have finished, or one has reset it."""
        return stream in self._streams

    def send_window(self, stream: int) -> int:
        """Bytes that may be sent now; 0 for a stream that is closed for sending."""
        known = self._streams.get(stream)
        if known is None or (known.state, Move.WE_DATA) not in TRANSITIONS:
            return 0
        return known.send_window

    def data_header(self, stream: int, count: int) -> bytes:
        """The header to send before `count` bytes (at most MAX_FRAME and `send_window`) of the stream."""
        known = self._streams.get(stream)
        if known is None or not 0 < count <= min(known.send_window, MAX_FRAME):
            raise LocalProtocolError(f"{count} bytes may not be sent on stream {stream}")
        self._move(known, Move.WE_DATA)
        known.send_window -= count
        return frame(DATA, 0, stream, count)

    def finish(self, stream: int) -> None:
        """Send no more on the stream. All its data must have been given to the connection before."""
        self._move(self._known(stream), Move.WE_FIN)
        self._push(frame(WINDOW_UPDATE, FIN, stream, 0))

    def reset(self, stream: int) -> None:
        """Abort the stream. Does nothing when it is closed already."""
        known = self._streams.get(stream)
        if known is not None:
            self._move(known, Move.WE_RST)
            self._push(frame(WINDOW_UPDATE, RST, stream, 0))

    def consumed(self, stream: int, count: int) -> bool:
        """The application used up `count` bytes. True when half of the window is used up: call `grow` then."""
        known = self._streams.get(stream)
        if known is None:
            return False
        known.consumed += count
        return known.consumed * 2 >= known.size and (known.state, Move.THEY_DATA) in TRANSITIONS

    def window_size(self, stream: int) -> int:
        return self._known(stream).size

    def grow(self, stream: int, size: int) -> None:
        """Grant what was consumed again, and let the window be `size` (not less than it is)."""
        known = self._known(stream)
        if not known.size <= size <= MAX_WINDOW:
            raise LocalProtocolError(f"a window of {size} bytes")
        increment = known.consumed + size - known.size
        known.size, known.consumed = size, 0
        if increment:
            known.receive_window += increment
            self._push(frame(WINDOW_UPDATE, 0, stream, increment))

    def ping(self, value: int) -> None:
        self._push(frame(PING, SYN, 0, value))

    def go_away(self, reason: int = NORMAL) -> None:
        self._push(frame(GO_AWAY, 0, 0, reason))

    def control_to_send(self) -> bytes:
        """Control frames to send before any more data."""
        out, self._control = bytes(self._control), bytearray()
        return out

    @property
    def has_control(self) -> bool:
        return bool(self._control)

    # What they do.

    def receive(self, data: memoryview) -> list[Event]:
        """Feed what was received. Raises RemoteProtocolError for a violation."""
        if self.failed:
            raise LocalProtocolError("the connection has failed")
        events: list[Event] = []
        try:
            self._receive(data, events)
        except RemoteProtocolError:
            self.failed = True
            self._control.clear()
            self._control += frame(GO_AWAY, 0, 0, PROTOCOL_ERROR)
            raise
        return events

    def awaits(self, count: int) -> int:
        """The stream that the next `count` bytes are of, all inside a DATA frame and wanted; 0 when they are not.

        They may then be put where they belong and be told by `passed`, without `receive`.
        """
        body = self._body
        if body is None or body.left < count or body.stream is None or body.stream.state is State.CLOSED:
            return 0
        return body.id

    def passed(self, count: int) -> list[Event]:
        """What `awaits` allowed has been put in its place."""
        events: list[Event] = []
        if self._body is None or self._body.left < count:
            raise LocalProtocolError(f"{count} bytes were not awaited")
        self._pass(self._body, count, events)
        return events

    def _receive(self, data: memoryview, events: list[Event]) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._body is not None:
                at = self._on_body(self._body, data, at, events)
            elif not self._partial and end - at >= HEADER:
                self._on_header(unpack_from(data, at), events)
                at += HEADER
            else:
                part = min(HEADER - len(self._partial), end - at)
                self._partial += data[at : at + part]
                at += part
                if len(self._partial) == HEADER:
                    header = unpack(self._partial)
                    self._partial.clear()
                    self._on_header(header, events)

    def _on_header(self, header: tuple[int, int, int, int, int], events: list[Event]) -> None:
        version, kind, flags, stream, length = header
        if version != 0 or kind > GO_AWAY or flags & ~ALL_FLAGS:
            raise RemoteProtocolError(f"a yamux frame of version {version}, type {kind}, flags {flags:#x}")
        if kind == PING:
            self._on_ping(flags, length, events)
        elif kind == GO_AWAY:
            self.went_away = True
            events.append(WentAway(length))
        else:
            self._on_stream_frame(kind, flags, stream, length, events)

    def _on_ping(self, flags: int, value: int, events: list[Event]) -> None:
        if flags & SYN:
            self._answer(frame(PING, ACK, 0, value))
        elif flags & ACK:
            events.append(Ponged(value))
        else:
            raise RemoteProtocolError("a yamux ping that neither asks nor answers")

    def _on_stream_frame(self, kind: int, flags: int, id: int, length: int, events: list[Event]) -> None:
        if flags & SYN:
            self._on_syn(id, events)
        known = self._streams.get(id)
        if known is None and not self._was_opened(id):
            raise RemoteProtocolError(f"a yamux frame for stream {id}, which was never opened")
        if known is not None and flags & ACK:
            self._on_ack(known, events)
        if kind == DATA:
            self._on_data(known, flags, id, length, events)
        elif known is not None:
            self._on_window(known, length, events)
            self._on_ending(known, flags, events)

    def _on_syn(self, id: int, events: list[Event]) -> None:
        if id == 0 or id % 2 != self._next_remote % 2:
            raise RemoteProtocolError(f"the peer opened stream {id}, which is not its to open")
        if id >= self._next_remote:
            skipped = (id - self._next_remote) // 2
            if skipped + len(self._gaps) > MAX_GAPS:
                raise RemoteProtocolError("the peer skipped too many stream ids")
            self._gaps.update(range(self._next_remote, id, 2))
            self._next_remote = id + 2
        elif id in self._gaps:
            self._gaps.remove(id)
        else:
            raise RemoteProtocolError(f"the peer opened stream {id} twice")
        if self.counts.inbound >= self._max_inbound:
            self._refuse(id)
            return
        self.counts.refused = 0
        self.counts.inbound += 1
        self._streams[id] = Stream(id, acknowledged=True)
        self._answer(frame(WINDOW_UPDATE, ACK, id, 0))
        events.append(Opened(id))

    def _refuse(self, id: int) -> None:
        """Reset what passes the limit, which a peer cannot know; cut off one that goes on regardless."""
        self.counts.refused += 1
        if self.counts.refused > self._max_inbound:
            raise RemoteProtocolError("the peer goes on opening streams over the limit")
        self._late += INITIAL_WINDOW
        self._answer(frame(WINDOW_UPDATE, RST, id, 0))

    def _was_opened(self, id: int) -> bool:
        if id % 2 == self._next_local % 2:
            return 0 < id < self._next_local
        return 0 < id < self._next_remote and id not in self._gaps

    def _on_ack(self, known: Stream, events: list[Event]) -> None:
        if not known.acknowledged:
            known.acknowledged = True
            self.counts.unacknowledged -= 1
            events.append(Acknowledged(known.id))

    def _on_data(self, known: Stream | None, flags: int, id: int, length: int, events: list[Event]) -> None:
        if known is None:
            if length > self._late:
                raise RemoteProtocolError(f"{length} bytes for stream {id}, which is closed")
            self._late -= length
        else:
            if length > known.receive_window:
                raise RemoteProtocolError(f"{length} bytes for stream {id} pass its window")
            if length:
                self._they(known, Move.THEY_DATA)
            known.receive_window -= length
        if length:
            self._body = Body(known, length, flags, id)
        elif known is not None:
            self._on_ending(known, flags, events)

    def _on_body(self, body: Body, data: memoryview, at: int, events: list[Event]) -> int:
        part = min(body.left, len(data) - at)
        known = body.stream
        # A stream that we reset while its frame came has been forgotten: the rest of the frame is dropped.
        if known is not None and known.state is not State.CLOSED:
            events.append(Received(body.id, data[at : at + part]))
        self._pass(body, part, events)
        return at + part

    def _pass(self, body: Body, count: int, events: list[Event]) -> None:
        body.left -= count
        if not body.left:
            self._body = None
            known = body.stream
            if known is not None and known.state is not State.CLOSED:
                self._on_ending(known, body.flags, events)

    def _on_window(self, known: Stream, increment: int, events: list[Event]) -> None:
        if known.send_window + increment > MAX_SEND_WINDOW:
            raise RemoteProtocolError(f"the window of stream {known.id} passes 32 bits")
        known.send_window += increment
        if increment:
            events.append(WindowOpened(known.id))

    def _on_ending(self, known: Stream, flags: int, events: list[Event]) -> None:
        if flags & RST:
            self._they(known, Move.THEY_RST)
            events.append(WasReset(known.id))
        elif flags & FIN:
            repeated = known.state is State.REMOTE_CLOSED
            self._they(known, Move.THEY_FIN)
            if not repeated:
                events.append(Finished(known.id))

    # States.

    def _known(self, stream: int) -> Stream:
        if (known := self._streams.get(stream)) is None:
            raise LocalProtocolError(f"stream {stream} is closed")
        return known

    def _they(self, stream: Stream, move: Move) -> None:
        if (stream.state, move) not in TRANSITIONS:
            raise RemoteProtocolError(f"stream {stream.id} is {stream.state.value}, and {move.value}")
        self._move(stream, move)

    def _move(self, stream: Stream, move: Move) -> None:
        state = TRANSITIONS.get((stream.state, move))
        if state is None:
            raise LocalProtocolError(f"stream {stream.id} is {stream.state.value}, but {move.value}")
        stream.state = state
        if state is State.CLOSED:
            self._forget(stream, move)

    def _forget(self, stream: Stream, move: Move) -> None:
        del self._streams[stream.id]
        if stream.id % 2 == self._next_local % 2:
            self.counts.outbound -= 1
            self.counts.unacknowledged -= not stream.acknowledged
        else:
            self.counts.inbound -= 1
        if move is Move.WE_RST:  # what they sent before they learn of it is no violation
            self._late += stream.receive_window

    def _answer(self, control: bytes) -> None:
        if len(self._control) > MAX_CONTROL:
            raise RemoteProtocolError("the peer asks for more answers than it reads")
        self._control += control

    def _push(self, control: bytes) -> None:
        self._control += control
