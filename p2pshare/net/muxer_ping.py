"""Pings of a connection: the round trip, and whether the peer still lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from p2pshare.errors import QuotaExceeded
from p2pshare.net.muxer_limits import MuxerLimits

_MAX_WAITING = 16
_VALUES = 2**32
_NEWEST = 0.25  # the weight of a new round trip in the smoothed one
SLOWEST = 2 / 3  # bytes a second: a peer that reads so slowly is still waited for


@dataclass(frozen=True, slots=True)
class Progress:
    """moved: bytes so far, in both directions together; sent: those out. stuck: a write waits for the peer.

    unacknowledged: seconds since the peer's kernel last acknowledged anything while something is under way to it;
    0 when nothing is, or nobody knows.
    """

    moved: int
    sent: int
    stuck: bool
    unacknowledged: float = 0.0


class Pings:
    """`send` puts a ping with a value into the connection."""

    def __init__(self, send: Callable[[int], None], progress: Callable[[], Progress], limits: MuxerLimits) -> None:
        self.rtt: float | None = None
        self._send = send
        self._progress = progress
        self._limits = limits
        self._read = 0  # of the bytes sent, what the peer has surely read: all before the last ping that it answered
        self._waiting: dict[int, tuple[float, trio.Event, int]] = {}
        self._next = 0
        self._ended = ""

    async def ping(self) -> float:
        """The round trip in seconds. Raises BrokenResourceError, or QuotaExceeded when 16 wait already."""
        if len(self._waiting) >= _MAX_WAITING:
            raise QuotaExceeded("too many pings wait for an answer")
        if self._ended:
            raise trio.BrokenResourceError(self._ended)
        value, answered = self._start()
        begun = trio.current_time()
        try:
            await answered.wait()
        finally:
            self._waiting.pop(value, None)
        if self._ended:
            raise trio.BrokenResourceError(self._ended)
        return trio.current_time() - begun

    def on_pong(self, value: int) -> None:
        if (waiting := self._waiting.pop(value, None)) is not None:
            begun, answered, sent = waiting
            self._read = max(self._read, sent)
            took = trio.current_time() - begun
            self.rtt = took if self.rtt is None else (1 - _NEWEST) * self.rtt + _NEWEST * took
            answered.set()

    def end(self, reason: str) -> None:
        self._ended = reason
        for _, answered, _ in self._waiting.values():
            answered.set()

    async def keep_alive(self) -> bool:
        """Ping at once and then at every interval, until the connection ends (False) or the peer is dead (True).

        Dead is a peer that does not answer, while no byte moves either way for as long as `_patience` says. One that
        reads slowly moves no byte that we could see, for its kernel and ours hold megabytes.
        """
        while not self._ended:
            value, answered = self._start()
            still_since, moved = trio.current_time(), self._progress().moved
            while not answered.is_set():
                with trio.move_on_after(self._limits.ping_timeout / 4):
                    await answered.wait()
                now, progress = trio.current_time(), self._progress()
                if progress.moved != moved:
                    still_since, moved = now, progress.moved
                if not answered.is_set() and now - still_since >= self._patience(progress):
                    self._waiting.pop(value, None)
                    return True
            await trio.sleep(self._limits.ping_interval)
        return False

    def _patience(self, progress: Progress) -> float:
        """Seconds without a byte after which the peer is dead: the ping's timeout when not even its kernel answers;
        else as long as it may take to read what was sent, at SLOWEST, up to the stall's timeout."""
        limits = self._limits
        if progress.unacknowledged >= limits.ping_timeout:
            return limits.ping_timeout
        if progress.stuck:
            return limits.stall_timeout
        return min(limits.stall_timeout, max(limits.ping_timeout, (progress.sent - self._read) / SLOWEST))

    def _start(self) -> tuple[int, trio.Event]:
        value = self._next = (self._next + 1) % _VALUES
        answered = trio.Event()
        self._waiting[value] = (trio.current_time(), answered, self._progress().sent)
        self._send(value)
        return value, answered
