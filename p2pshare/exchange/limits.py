"""Limits of the rate at which content moves: one for all uploads, one for all downloads, shared by their streams."""

from __future__ import annotations

import trio

from p2pshare_protocols.tokenbucket import TokenBucket


class RateLimit:
    """Bytes a second for all who call `take`; 0: no limit, and no cost. For the trio thread."""

    def __init__(self, rate: float = 0.0) -> None:
        self._bucket = TokenBucket(rate)

    @property
    def rate(self) -> float:
        return self._bucket.rate

    def set_rate(self, rate: float) -> None:
        """Takes effect at once, also for transfers that are under way."""
        self._bucket.set_rate(rate)

    @property
    def grain(self) -> int:
        """Bytes to take at a time; 0: there is no limit, move as much as you like without asking."""
        return self._bucket.grain if self._bucket.rate else 0

    async def take(self, count: int) -> None:
        """Wait until `count` bytes may pass. Not always a checkpoint."""
        wait = self._bucket.take(count, trio.current_time())
        if wait > 0:
            await trio.sleep(wait)
