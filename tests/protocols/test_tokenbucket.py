"""The token bucket: exact over a second and over a minute, fair in the order of asking, free when there is no limit."""

import pytest

from p2pshare_protocols.tokenbucket import BURST, TokenBucket


def passed_by(bucket: TokenBucket, until: float, count: int, now: float = 100.0) -> int:
    """Bytes that one taker who always wants more has moved `until` seconds after `now`."""
    end, total = now + until, 0
    while True:
        now += bucket.take(count, now)
        if now >= end:
            return total
        total += count


@pytest.mark.parametrize("rate", [10_000, 1_000_000, 80_000_000])
@pytest.mark.parametrize("seconds", [1, 10, 60])
def test_the_rate_is_kept_to_five_percent(rate: int, seconds: int) -> None:
    bucket = TokenBucket(rate)
    assert passed_by(bucket, seconds, bucket.grain) == pytest.approx(rate * seconds, rel=0.05)


def test_a_rest_saves_up_no_more_than_a_burst() -> None:
    bucket = TokenBucket(1000)
    bucket.take(10, 0.0)
    assert bucket.take(int(1000 * BURST), 3600.0) == 0.0
    assert bucket.take(1, 3600.0) == 0.0
    assert bucket.take(1, 3600.0) > 0.0


def test_takers_pass_in_the_order_of_asking() -> None:
    bucket = TokenBucket(1000)
    waits = [bucket.take(100, 5.0) for _ in range(5)]
    assert waits == pytest.approx([max(0.0, 0.1 * n - BURST) for n in range(5)])


def test_a_new_rate_holds_from_the_next_bytes_on() -> None:
    bucket = TokenBucket(1000)
    bucket.take(1000, 0.0)
    bucket.set_rate(10_000)
    assert bucket.take(1000, 0.0) == pytest.approx(1.0 - BURST)
    assert bucket.take(1, 0.0) == pytest.approx(1.1 - BURST)


def test_no_limit_never_waits_and_a_negative_one_is_no_rate() -> None:
    bucket = TokenBucket()
    assert bucket.take(1 << 40, 0.0) == 0.0
    with pytest.raises(ValueError, match="rate"):
        bucket.set_rate(-1)
    with pytest.raises(ValueError, match="rate"):
        bucket.set_rate(float("nan"))
