"""How long nodes live, as a routing table sees it, and how soon a record must therefore be stored anew.

Each answer of a node in the table adds the time since its last answer to the lifetime seen; each node that fails to
answer adds half of it and one death, which is taken back when it answers again. Deaths over lifetime is the
maximum-likelihood rate of an exponential life. Of 20 nodes that keep a record 35 % are left after one and a half
half-lives, and none with probability 0.0002.
"""

from __future__ import annotations

import math
from collections import deque

REPUBLISH = 22 * 3600.0
"""Seconds: the libp2p specification's provider record republish interval, kept while nodes live long."""
LEAST = 60.0
"""Seconds between two stores of one record at least, whatever the network does."""
MIN_DEATHS = 8
"""Before so many deaths were seen, the network counts as stable."""
HALF_LIVES = 1.5


class Lives:
    """The last 512 sightings."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=512)

    def saw(self, seconds: float, *, died: bool) -> None:
        self._seen.append((max(0.0, seconds), int(died)))

    def came_back(self, seconds: float) -> None:
        """One that was taken for dead has answered."""
        self._seen.append((max(0.0, seconds), -1))

    @property
    def half_life(self) -> float | None:
        """Seconds, or None while too few deaths were seen."""
        deaths = sum(died for _, died in self._seen)
        if deaths < MIN_DEATHS:
            return None
        return math.log(2) * sum(seconds for seconds, _ in self._seen) / deaths

    def renew_after(self) -> float:
        """Seconds after which a record is to be stored anew."""
        half_life = self.half_life
        return REPUBLISH if half_life is None else min(REPUBLISH, max(LEAST, HALF_LIVES * half_life))

    def refresh_after(self, usual: float) -> float:
        """Seconds after which a bucket is to be looked through again."""
        half_life = self.half_life
        return usual if half_life is None else min(usual, max(LEAST, half_life))
