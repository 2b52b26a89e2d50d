"""Pings of a connection: the round trip, and whether the peer still lives."""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2pshare.errors import QuotaExceeded
from p2pshare.net.muxer_limits import MuxerLimits

_MAX_WAITING = 16
_VALUES = 2**32
_NEWEST = 0.25  # the weight of a new round trip in the smoothed one


class Pings:
    """`send` puts a ping with a value into the connection. `moved` returns the bytes moved so far in both
    directions together, and whether a write waits for the peer."""

    def __init__(self, send: Callable[[int], None], moved: Callable[[], tuple[int, bool]], limits: MuxerLimits) -> None:
        self.rtt: float | None = None
        self._send = send
        self._moved = moved
        self._limits = limits
        self._waiting: dict[int, tuple[float, trio.Event]] = {}
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
            begun, answered = waiting
            took = trio.current_time() - begun
            self.rtt = took if self.rtt is None else (1 - _NEWEST) * self.rtt + _NEWEST * took
            answered.set()

    def end(self, reason: str) -> None:
        self._ended = reason
        for _, answered in self._waiting.values():
            answered.set()

    async def keep_alive(self) -> bool:
        """Ping at once and then at every interval, until the connection ends (False) or the peer is dead (True).

        Dead is a peer that does not answer, while no byte moves either way for the whole timeout: one that reads
        slowly, or answers late behind much data, moves bytes. While a write waits for it, the timeout is longer.
        """
        while not self._ended:
            value, answered = self._start()
            still_since, (moved, _) = trio.current_time(), self._moved()
            while not answered.is_set():
                with trio.move_on_after(self._limits.ping_timeout / 4):
                    await answered.wait()
                now, (total, stuck) = trio.current_time(), self._moved()
                if total != moved:
                    still_since, moved = now, total
                limit = self._limits.stall_timeout if stuck else self._limits.ping_timeout
                if not answered.is_set() and now - still_since >= limit:
                    self._waiting.pop(value, None)
                    return True
            await trio.sleep(self._limits.ping_interval)
        return False

    def _start(self) -> tuple[int, trio.Event]:
        value = self._next = (self._next + 1) % _VALUES
        answered = trio.Event()
        self._waiting[value] = (trio.current_time(), answered)
        self._send(value)
        return value, answered
