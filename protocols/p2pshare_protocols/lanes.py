"""How many connections to one source are worth having. Pure: `now` (seconds, any monotonic clock) is an argument.

One TCP connection cannot fill every path: its window may be smaller than the bandwidth-delay product, and loss slows it
down. Whether that is so cannot be seen from one number, so it is tried: while the rate is flat although enough is
asked for, one more connection is opened, and kept only if the sum has grown by a tenth some round trips later. On a
near path nothing is tried, since there neither window nor loss is what limits.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 4
NEAR: Final = 0.01  # seconds of round trip, below which one connection is enough
LONG: Final = 0.1  # from here on a second is opened at once: the kernel's usual send buffer holds 3 MB, 30 MB/s at most
GAIN: Final = 1.1
SPAN: Final = 1.0  # seconds, and ROUND_TRIPS round trips, over which a rate is measured
ROUND_TRIPS: Final = 5
TRIAL: Final = 3  # spans until one more connection must have shown what it is worth
REST: Final = 20.0  # seconds until it is tried again after it brought nothing


class Lanes:
    """One source's. `look` is called now and then, every quarter of a second or so."""

    def __init__(self) -> None:
        self.wanted = 1
        self._since: float | None = None
        self._bytes = 0
        self._rate = 0.0  # of the span before
        self._before = 0.0  # rate before the trial
        self._trial = 0  # spans that are left of it
        self._rest_until = 0.0
        self._begun = False

    def look(self, received: int, rtt: float, now: float, *, full: bool) -> int:
        """Connections to have. `received`: bytes so far on all of them. `full`: as much is asked for as they take; when
        not, a flat rate says nothing."""
        if self._since is None or not full:
            self._since, self._bytes = now, received
            return self.wanted
        if not self._begun and rtt >= LONG:
            self._begun = True
            self.wanted = 2
        span = max(SPAN, ROUND_TRIPS * rtt)
        if now - self._since >= span:
            rate = (received - self._bytes) / (now - self._since)
            self._since, self._bytes = now, received
            if rtt >= NEAR:
                self._judge(rate, now)
            self._rate = rate
        return self.wanted

    def _judge(self, rate: float, now: float) -> None:
        if self._trial:
            self._trial -= 1
            if rate >= GAIN * self._before:
                self._trial = 0
            elif not self._trial:
                self.wanted -= 1
                self._rest_until = now + REST
        elif rate and rate < GAIN * self._rate and self.wanted < MOST and now >= self._rest_until:
            self._before = max(rate, self._rate)
            self._trial = TRIAL
            self.wanted += 1
