"""How much window the streams of a connection are granted: more to quick readers, as far as the budget reaches."""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2pshare.net.muxer_limits import MuxerLimits, ReceiveBudget
from p2pshare.net.muxer_stream import MuxStream
from p2pshare_protocols.yamux import Yamux

_UNKNOWN_RTT, _LEAST_RTT = 0.020, 0.001


class Windows:
    """Grants windows to the streams of one connection; `rtt` is its round trip in seconds, None when not known."""

    def __init__(
        self, machine: Yamux, budget: ReceiveBudget, limits: MuxerLimits, rtt: Callable[[], float | None]
    ) -> None:
        self._machine = machine
        self._budget = budget
        self._limits = limits
        self._rtt = rtt

    def first(self, stream: MuxStream) -> None:
        """Raises the window of a new stream: less for each stream more, so that many leave room for each other."""
        size = self._machine.window_size(stream.id)
        extra = min(self._limits.first_window - size, self._budget.room // 4)
        if extra > 0 and self._budget.grant(extra):
            stream.granted += extra
            self._machine.grow(stream.id, size + extra)

    def used(self, stream: MuxStream, count: int) -> bool:
        """The application used up `count` bytes. Once half of the window is, grants it again, and a larger one when
        that took less than 4 round trips; then there is something to send, and this is True."""
        if not self._machine.consumed(stream.id, count):
            return False
        now = trio.current_time()
        size = self._machine.window_size(stream.id)
        quick = 4 * max(self._rtt() or _UNKNOWN_RTT, _LEAST_RTT)
        larger = min(2 * size, self._limits.max_window)
        if now - stream.granted_at < quick and larger > size and self._budget.grant(larger - size):
            stream.granted += larger - size
            size = larger
        stream.granted_at = now
        self._machine.grow(stream.id, size)
        return True
