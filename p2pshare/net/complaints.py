"""Defects that strangers can trigger at will, logged without letting them fill the log or our time.

A traceback costs about ten milliseconds to write: a thousand a minute would be a denial of service of its own.
"""

from __future__ import annotations

import logging
import math
from collections import Counter

import trio

EVERY = 60.0  # seconds between two tracebacks about the same thing


class Complaints:
    """`about` logs the first error of a kind whole, and then one a minute with the number of those in between."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: dict[str, float] = {}
        self._since: Counter[str] = Counter()
        self.total = 0

    def about(self, what: str, error: Exception) -> None:
        """`what` comes from our own code: there are as many kinds as handlers, not as many as strangers like."""
        self.total += 1
        now = trio.current_time()
        if now - self._last.get(what, -math.inf) < EVERY:
            self._since[what] += 1
            return
        self._last[what] = now
        unsaid = self._since.pop(what, 0)
        more = f" ({unsaid} more since the last time it was written here)" if unsaid else ""
        self._log.error("%s%s", what, more, exc_info=error)
