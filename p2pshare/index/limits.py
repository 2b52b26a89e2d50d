"""How often a peer may ask. A stranger's questions must not take the node's time from its own work.

Measured with 100,000 files on two cores: a rare word costs 1 to 7 ms, a word in every name 150 ms, a filter that
leaves nothing 600 ms. So questions are counted, and the time they took is counted too.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_REMEMBERED: Final = 1024  # peers


class Bucket:
    """Holds `burst` at most and fills at `rate` a second. `now` is seconds of any clock that only goes forward."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = now

    def level(self, now: float) -> float:
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """May go below nothing: then it takes that much longer to fill."""
        self._level = self.level(now) - amount


@dataclass(frozen=True, slots=True)
class Rates:
    """(a second, at once) for a peer and for all peers together: questions, and seconds of work on them."""

    peer_questions: tuple[float, float] = (2.0, 20.0)
    peer_work: tuple[float, float] = (0.05, 1.0)
    all_questions: tuple[float, float] = (40.0, 100.0)
    all_work: tuple[float, float] = (0.2, 2.0)


class Allowance:
    """What each peer, and all together, may still ask.

    At most 1024 peers are remembered, those that asked last; a peer that was forgotten starts anew, which the
    common buckets make harmless.
    """

    def __init__(self, now: float, rates: Rates | None = None) -> None:
        self._rates = rates or Rates()
        self._questions = Bucket(*self._rates.all_questions, now)
        self._work = Bucket(*self._rates.all_work, now)
        self._peers: OrderedDict[str, tuple[Bucket, Bucket]] = OrderedDict()

    def take(self, peer_id: str, now: float) -> bool:
        """Whether `peer_id` may ask a question at `now`; if so it is counted."""
        questions, work = self._of(peer_id, now)
        if min(questions.level(now), self._questions.level(now)) < 1:
            return False
        if min(work.level(now), self._work.level(now)) <= 0:
            return False
        questions.take(1, now)
        self._questions.take(1, now)
        return True

    def spend(self, peer_id: str, seconds: float, now: float) -> None:
        """The work that a question of `peer_id` was."""
        self._of(peer_id, now)[1].take(seconds, now)
        self._work.take(seconds, now)

    def _of(self, peer_id: str, now: float) -> tuple[Bucket, Bucket]:
        buckets = self._peers.pop(peer_id, None)
        if buckets is None:
            buckets = (Bucket(*self._rates.peer_questions, now), Bucket(*self._rates.peer_work, now))
        self._peers[peer_id] = buckets
        if len(self._peers) > _REMEMBERED:
            self._peers.popitem(last=False)
        return buckets
