"""What a connection writes next: urgent frames first, then a turn for each stream that has something to send.

So a ping never waits behind a bulk transfer for more than one batch, and a batch is as much as the connection
takes in about 10 ms.
"""

from __future__ import annotations

from collections import deque

from p2pshare.net.muxer_stream import MuxStream
from p2pshare.net.session_base import MAX_BATCH
from p2pshare_protocols.noise_cipher import MAX_PLAINTEXT
from p2pshare_protocols.yamux import MAX_FRAME, Yamux
from p2pshare_protocols.yamux_frames import HEADER

_QUANTUM, _TURNS = 1 << 16, 4  # a stream's turn when others wait too: bytes at least, and how many fill a batch
_FIRST_BATCH, _MIN_BATCH = 1 << 18, 1 << 14
_FULL_BATCH = 10 * MAX_PLAINTEXT  # full records, which stay in a cache of 1 MiB while they are sealed and sent
_SLOW, _QUICK = 0.010, 0.004  # seconds that a batch took: make it smaller, larger


class Turns:
    """The streams of one connection that have bytes to send and a window for them, in the order of their turns."""

    def __init__(self, machine: Yamux) -> None:
        self.batch = _FIRST_BATCH
        self._machine = machine
        self._waiting: deque[MuxStream] = deque()

    def add(self, stream: MuxStream) -> bool:
        """True when it was not waiting already."""
        if stream.queued:
            return False
        stream.queued = True
        self._waiting.append(stream)
        return True

    def clear(self) -> None:
        self._waiting.clear()

    def collect(self) -> list[memoryview]:
        """One batch; empty when there is nothing to send."""
        buffers: list[memoryview] = []
        control = self._machine.control_to_send()
        if control:
            buffers.append(memoryview(control))
        room = min(self.batch, MAX_BATCH - len(control))
        quantum = max(_QUANTUM, self.batch // _TURNS)  # a large one costs less, and on a quick path it delays nobody
        while self._waiting and room > HEADER:
            stream = self._waiting.popleft()
            turn = quantum if self._waiting else MAX_FRAME
            count = min(stream.pending(), self._machine.send_window(stream.id), turn, room - HEADER)
            if count:
                buffers.append(memoryview(self._machine.data_header(stream.id, count)))
                buffers.append(stream.take(count))
                room -= HEADER + count
            if count and stream.pending():
                self._waiting.append(stream)
            else:
                stream.queued = False
        return buffers

    def adapt(self, took: float) -> bool:
        """Learn from the seconds that the last batch took. True when the size of a batch changed."""
        if took > _SLOW and self.batch > _MIN_BATCH:
            self.batch = max(_MIN_BATCH, self.batch // 2)
        elif took < _QUICK and self.batch < _FULL_BATCH:
            self.batch = min(_FULL_BATCH, self.batch * 2)
        else:
            return False
        return True
