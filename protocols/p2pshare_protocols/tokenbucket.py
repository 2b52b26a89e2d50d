"""How much may pass when, at a rate in bytes a second. Pure: `now` (seconds, any monotonic clock) is an argument.

The bucket keeps when its debt will be paid (GCRA, the leaky bucket of ITU-T I.371 as a virtual schedule): a taker is
told how long to wait, and whoever takes after it is told to wait longer. So takers pass in the order of asking, and
many of them together keep the rate as exactly as one.
"""

from __future__ import annotations

from typing import Final

BURST: Final = 0.02  # seconds of the rate that may pass at once after a rest; at most 2 % of what a second may carry
_GRAIN_SECONDS: Final = 0.02
_LEAST_GRAIN: Final = 1 << 10
_MOST_GRAIN: Final = 1 << 18


class TokenBucket:
    """`rate` in bytes a second, 0: no limit."""

    def __init__(self, rate: float = 0.0) -> None:
        self._rate = 0.0
        self._paid = float("-inf")  # when all that was taken has had its time
        self.set_rate(rate)

    @property
    def rate(self) -> float:
        return self._rate

    def set_rate(self, rate: float) -> None:
        """From now on; what was taken before keeps the times it was given. Raises ValueError below zero."""
        if not rate >= 0:
            raise ValueError(f"a rate of {rate} bytes a second")
        self._rate = rate

    @property
    def grain(self) -> int:
        """Bytes to take at a time, so that takers alternate often and nothing waits long behind a large one."""
        return int(min(_MOST_GRAIN, max(_LEAST_GRAIN, self._rate * _GRAIN_SECONDS)))

    def ready(self, now: float) -> float:
        """Seconds until somebody may take without waiting."""
        return max(0.0, self._paid - now) if self._rate else 0.0

    def take(self, count: int, now: float) -> float:
        """Take `count` bytes. Returns the seconds until they may pass; they are taken whether one waits or not."""
        if not self._rate:
            return 0.0
        begin = max(self._paid, now - BURST)
        self._paid = begin + count / self._rate
        return max(0.0, begin - now)
