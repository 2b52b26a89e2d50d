"""How often a peer may ask. A query costs the asked node some milliseconds; a stranger's flood must not cost more."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_REMEMBERED: Final = 1024  # peers


class TokenBucket:
    """`burst` requests at once, then `rate` a second. `now` is seconds of any clock that only goes forward."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Allowance:
    """One bucket a peer and one for all of them together.

    At most 1024 peers are remembered, those that asked last; a peer that comes back after being forgotten starts
    anew, which the common bucket makes harmless.
    """

    def __init__(
        self, *, peer: tuple[float, float] = (2.0, 20.0), everybody: tuple[float, float] = (40.0, 100.0)
    ) -> None:
        self._peer = peer
        self._everybody = everybody
        self._common: TokenBucket | None = None
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, peer_id: str, now: float) -> bool:
        """Whether `peer_id` may ask at `now`. Its own bucket comes first: one peer cannot empty the common one."""
        bucket = self._buckets.pop(peer_id, None) or TokenBucket(*self._peer, now)
        self._buckets[peer_id] = bucket
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if self._common is None:
            self._common = TokenBucket(*self._everybody, now)
        return bucket.take(now) and self._common.take(now)
