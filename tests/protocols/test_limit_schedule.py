"""Rules of a schedule of limits: what they say, when they hold, and what is no rule."""

from __future__ import annotations

import pytest

from p2pshare_protocols.config_schema import parse_size
from p2pshare_protocols.limit_schedule import parse, rates_at

MON, TUE, FRI, SAT, SUN = 0, 1, 4, 5, 6
USUAL = (1000.0, 2000.0)


def rates(weekday: int, clock: str, *rules: str) -> tuple[float, float]:
    hour, minute = clock.split(":")
    return rates_at([parse(rule, parse_size) for rule in rules], weekday, int(hour) * 60 + int(minute), USUAL)


@pytest.mark.parametrize(
    ("clock", "lifted"),
    [("21:59", False), ("22:00", True), ("23:59", True), ("00:00", True), ("06:59", True), ("07:00", False)],
)
def test_a_night_without_limits(clock: str, lifted: bool) -> None:
    assert rates(MON, clock, "22:00-07:00 upload=0 download=0") == ((0, 0) if lifted else USUAL)


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    rule = "fri 22:00-07:00 upload=5MB"
    assert rates(FRI, "23:00", rule) == (5e6, 2000)
    assert rates(SAT, "06:00", rule) == (5e6, 2000)
    assert rates(FRI, "06:00", rule) == USUAL
    assert rates(SAT, "23:00", rule) == USUAL
    assert rates(MON, "01:00", "sun 22:00-07:00 upload=0") == (0, 2000)


def test_days_go_over_the_week_s_end_and_the_first_rule_counts() -> None:
    assert rates(SUN, "12:00", "sat-mon 00:00-24:00 download=1") == (1000, 1)
    assert rates(TUE, "12:00", "sat-mon 00:00-24:00 download=1") == USUAL
    assert rates(MON, "12:00", "sat,mon 00:00-24:00 download=1", "00:00-24:00 download=2") == (1000, 1)
    assert rates(SUN, "12:00", "sat,mon 00:00-24:00 download=1", "00:00-24:00 download=2") == (1000, 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "upload=0",
        "22:00-07:00",
        "22:00-22:00 upload=0",
        "24:00-25:00 upload=0",
        "22:60-23:00 upload=0",
        "22-23 upload=0",
        "someday 22:00-23:00 upload=0",
        "mon-xyz 22:00-23:00 upload=0",
        "22:00-23:00 upload",
        "22:00-23:00 upload=fast",
        "22:00-23:00 upload=1 upload=2",
        "22:00-23:00 speed=1",
        "22:00-23:00 mon upload=1",
    ],
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text, parse_size)
