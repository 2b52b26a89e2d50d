"""Where the bytes that a connection receives belong: straight in the buffer of a reader that waits for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from p2pshare.net.muxer_stream import MuxStream
from p2pshare_protocols.yamux import Yamux
from p2pshare_protocols.yamux_events import Event

_TURNS = 4  # of a reader, to come from the end of one message to the bytes of the next


class Arrivals:
    """Takes a session's plaintext for the streams of one connection; `on_events` gets what the machine makes of it."""

    def __init__(
        self, machine: Yamux, streams: Mapping[int, MuxStream], on_events: Callable[[list[Event]], None]
    ) -> None:
        self._machine = machine
        self._streams = streams
        self._on_events = on_events
        self._stream: MuxStream | None = None
        self._lent: list[MuxStream] = []  # streams with views of the session's memory

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

    def lend(self, stream: MuxStream) -> None:
        """The stream keeps a view of what it got, until `settle` is over."""
        self._lent.append(stream)

    async def settle(self) -> None:
        """Let who was woken take what came, and wait again: what a reader takes now is copied once, and more goes
        straight into its buffer. What is not taken by then is copied for it, so that the session may read on."""
        try:
            await trio.lowlevel.checkpoint()
            turns = _TURNS - 1
            while self._lent and turns:
                self._lent = [stream for stream in self._lent if stream.borrows]
                if self._lent:
                    await trio.lowlevel.checkpoint()
                turns -= 1
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Copy what is lent still."""
        for stream in self._lent:
            stream.own()
        self._lent.clear()
