"""Limits that hold at certain times: "mon-fri 22:00-07:00 upload=0 download=10MB". Pure; the time is an argument.

A rule is days (optional: `mon`, `mon-fri`, `sat,sun`), a span of local time (its last minute is no part of it),
and `upload=` or `download=` or both, in bytes a second, 0 for no limit. A span that ends before it begins goes over
midnight and belongs to the day on which it begins; 00:00-24:00 is the whole day. The first rule that holds counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = 24 * 60  # minutes
_SPAN: Final = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """`begin` and `end` are minutes of the day; the rates are bytes a second, None: not said."""

    days: frozenset[int]
    begin: int
    end: int
    upload: int | None = None
    download: int | None = None

    def holds(self, weekday: int, minute: int) -> bool:
        """`weekday`: 0 is Monday."""
        if self.begin < self.end:
            return weekday in self.days and self.begin <= minute < self.end
        if minute >= self.begin:
            return weekday in self.days
        return minute < self.end and (weekday - 1) % 7 in self.days


def parse(text: str, size: Callable[[object], int]) -> Rule:
    """A rule; `size` reads a rate. Raises ValueError."""
    words = text.lower().split()
    days = frozenset(range(7))
    if words and not _SPAN.fullmatch(words[0]):
        days = _days(words.pop(0))
    span = _SPAN.fullmatch(words[0]) if words else None
    if span is None:
        raise ValueError(f"{text!r:.80} has no span such as 22:00-07:00")
    hours = [int(number) for number in span.groups()]
    begin, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if hours[1] > 59 or hours[3] > 59 or begin >= _DAY or end > _DAY or begin == end:
        raise ValueError(f"{text!r:.80} has a time of the day that is none, or a span of nothing")
    rates: dict[str, int] = {}
    for word in words[1:]:
        name, equals, rate = word.partition("=")
        if not equals or name not in ("upload", "download") or name in rates:
            raise ValueError(f"{word!r:.80} in it is neither upload=RATE nor download=RATE")
        rates[name] = size(rate)
    if not rates:
        raise ValueError(f"{text!r:.80} limits nothing")
    return Rule(days, begin, end, rates.get("upload"), rates.get("download"))


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{text!r:.80} names no days: mon, mon-fri or sat,sun")
        begin = DAYS.index(first)
        count = (DAYS.index(last) - begin) % 7 if dash else 0
        days.update((begin + more) % 7 for more in range(count + 1))
    return frozenset(days)


def rates_at(rules: Sequence[Rule], weekday: int, minute: int, usual: tuple[float, float]) -> tuple[float, float]:
    """Upload and download; `usual` is what holds where no rule says anything."""
    for rule in rules:
        if rule.holds(weekday, minute):
            upload, download = usual
            return (
                upload if rule.upload is None else rule.upload,
                download if rule.download is None else rule.download,
            )
    return usual
