"""Where the bytes that a connection receives belong: straight in the buffer of a reader that waits for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pshare.net.muxer_stream import MuxStream
from p2pshare_protocols.yamux import Yamux
from p2pshare_protocols.yamux_events import Event


class Arrivals:
    """Takes a session's plaintext for the streams of one connection; `on_events` gets what the machine makes of it."""

    def __init__(
        self, machine: Yamux, streams: Mapping[int, MuxStream], on_events: Callable[[list[Event]], None]
    ) -> None:
        self._machine = machine
        self._streams = streams
        self._on_events = on_events
        self._stream: MuxStream | None = None

    def room(self, size: int) -> memoryview | None:
        """The place of the next `size` bytes, when all of them are one stream's and its reader waits for them."""
        stream = self._stream = self._streams.get(self._machine.awaits(size))
        return None if stream is None else stream.room(size)

    def placed(self, size: int) -> None:
        """The bytes are in what `room` gave."""
        assert self._stream is not None
        self._stream.placed(size)
        if events := self._machine.passed(size):
            self._on_events(events)

    def take(self, plaintext: memoryview) -> None:
        """Bytes of which it is not known whose they are; free when this returns."""
        self._on_events(self._machine.receive(plaintext))
