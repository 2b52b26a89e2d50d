"""Bytes and bytes per second of all connections."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import trio

WINDOW = 5  # samples, one a second, that the rate is taken over


class Rates:
    """Sums what connections moved; `per_second` is (in, out) over the last five seconds."""

    def __init__(self) -> None:
        self.per_second = (0, 0)
        self._ended = (0, 0)

    def ended(self, traffic: tuple[int, int]) -> None:
        """Keeps the count of a connection that ended."""
        self._ended = self.total([traffic])

    def total(self, live: Iterable[tuple[int, int]]) -> tuple[int, int]:
        bytes_in, bytes_out = self._ended
        for one_in, one_out in live:
            bytes_in += one_in
            bytes_out += one_out
        return bytes_in, bytes_out

    async def sample(self, totals: Callable[[], tuple[int, int]]) -> None:
        """Takes a sample each second, for ever."""
        samples = deque([(trio.current_time(), *totals())], maxlen=WINDOW + 1)
        while True:
            await trio.sleep(1)
            now, now_in, now_out = trio.current_time(), *totals()
            then, then_in, then_out = samples[0]
            samples.append((now, now_in, now_out))
            seconds = max(now - then, 1e-3)
            self.per_second = (max(0, int((now_in - then_in) / seconds)), max(0, int((now_out - then_out) / seconds)))
