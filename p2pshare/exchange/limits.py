"""Limits of the rate at which content moves: one for all uploads, one for all downloads, shared by their streams."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from p2pshare_protocols.limit_schedule import Rule, rates_at
from p2pshare_protocols.tokenbucket import TokenBucket

SCHEDULE_LOOK: Final = 5.0  # seconds between two looks at the clock


class Limit(Protocol):
    """What a stream asks before it moves bytes."""

    @property
    def grain(self) -> int:
        """Bytes to take at a time; 0: there is no limit, move as much as you like without asking."""

    async def take(self, count: int) -> None:
        """Wait until `count` bytes may pass. Not always a checkpoint."""


@dataclass(order=True, slots=True)
class _Waiter:
    rank: int
    number: int
    count: int
    event: trio.Event = field(default_factory=trio.Event, compare=False)
    chosen: bool = field(default=False, compare=False)
    drives: bool = field(default=False, compare=False)


class RateLimit:
    """Bytes a second for all who call `take`; 0: no limit, and no cost. For the trio thread.

    Who takes with a higher priority passes first, as long as it takes; equals pass in the order of asking.
    """

    def __init__(self, rate: float = 0.0) -> None:
        self._bucket = TokenBucket(rate)
        self._waiting: list[_Waiter] = []  # a heap: the first is next
        self._count = 0
        self._driven = False  # one of them waits until the next bytes may pass

    @property
    def rate(self) -> float:
        return self._bucket.rate

    def set_rate(self, rate: float) -> None:
        """Takes effect at once, also for transfers that are under way."""
        self._bucket.set_rate(rate)

    @property
    def grain(self) -> int:
        return self._bucket.grain if self._bucket.rate else 0

    def of(self, priority: int) -> Limit:
        """The same limit for one whose takes have this priority."""
        return _Of(self, priority) if priority else self

    async def take(self, count: int, priority: int = 0) -> None:
        if not self._bucket.rate and not self._waiting:
            return
        self._count += 1
        me = _Waiter(-priority, self._count, count)
        heapq.heappush(self._waiting, me)
        try:
            if self._driven:
                await me.event.wait()
            if not me.chosen:
                self._driven = True
                await self._drive(me)
        finally:
            if not me.chosen:
                self._waiting.remove(me)
                heapq.heapify(self._waiting)
            if me.drives:
                self._hand_over()

    async def _drive(self, me: _Waiter) -> None:
        """One of those who wait chooses who is next, at the moment in which the next bytes may pass."""
        me.drives = True
        while not me.chosen:
            wait = self._bucket.ready(trio.current_time())
            if wait > 0:
                await trio.sleep(wait)
            first = heapq.heappop(self._waiting)
            self._bucket.take(first.count, trio.current_time())
            first.chosen = True
            first.event.set()

    def _hand_over(self) -> None:
        self._driven = bool(self._waiting)
        if self._waiting:
            self._waiting[0].drives = True
            self._waiting[0].event.set()


class _Of:
    def __init__(self, limit: RateLimit, priority: int) -> None:
        self._limit = limit
        self._priority = priority

    @property
    def grain(self) -> int:
        return self._limit.grain

    async def take(self, count: int) -> None:
        await self._limit.take(count, self._priority)


async def keep_schedule(
    rules: Sequence[Rule], upload: RateLimit, download: RateLimit, local_time: Callable[[], tuple[int, int]]
) -> None:
    """Set both limits to what the rules say, until cancelled. `local_time`: weekday (0: Monday) and minute of the day.

    Where no rule holds, or it says nothing of one of them, that one has the rate which it has now.
    """
    usual = (upload.rate, download.rate)
    while rules:
        rates = rates_at(rules, *local_time(), usual)
        for limit, rate in zip((upload, download), rates, strict=True):
            if limit.rate != rate:
                limit.set_rate(rate)
        await trio.sleep(SCHEDULE_LOOK)
