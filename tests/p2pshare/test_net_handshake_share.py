"""The share of CPU for strangers' handshakes: paid by the step, in turns by network."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from p2pshare.net.complaints import EVERY, Complaints
from p2pshare.net.guard import Group
from p2pshare.net.handshake_share import HandshakeShare

HERE, THERE = (4, 1), (4, 2)


def burn(seconds: float) -> None:
    """Uses up CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def steps(count: int, log: list[str], name: str, seconds: float = 0.002) -> str:
    for _ in range(count):
        await trio.lowlevel.checkpoint()
        burn(seconds)
        log.append(name)
    return name


async def test_what_a_step_costs_is_paid_before_the_next_one(autojump_clock: trio.testing.MockClock) -> None:
    """The clock is virtual: it moves by what the share makes the steps wait."""
    share = HandshakeShare(share=0.25, burst=0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(share.run)
        begun = trio.current_time()
        assert await share.work(HERE, steps(20, [], "a")) == "a"
        waited = trio.current_time() - begun
        assert share.cpu >= 20 * 0.002
        assert waited >= (share.cpu - 0.01) / 0.25 * 0.8
        assert share.waiting == 0
        nursery.cancel_scope.cancel()


async def test_networks_take_turns_however_much_one_of_them_wants(autojump_clock: trio.testing.MockClock) -> None:
    share = HandshakeShare(share=0.25, burst=0.0)
    log: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(share.run)

        async def take(group: Group, name: str, count: int) -> None:
            await share.work(group, steps(count, log, name))
            if name == "honest":
                nursery.cancel_scope.cancel()

        for _ in range(20):
            nursery.start_soon(take, HERE, "flood", 1000)
        await trio.sleep(1)
        log.clear()
        nursery.start_soon(take, THERE, "honest", 8)
    assert log.count("honest") == 8
    assert log.count("flood") <= 12


async def test_a_share_that_is_idle_makes_nobody_wait(autojump_clock: trio.testing.MockClock) -> None:
    share = HandshakeShare()
    assert await share.work(None, steps(5, [], "a", seconds=0.0)) == "a"  # run() is not even there


async def test_who_gives_up_while_it_waits_is_cancelled_and_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    share = HandshakeShare(share=0.01, burst=0.0)
    tidied = []

    async def handshake() -> None:
        try:
            await steps(100, [], "a")
        finally:
            tidied.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(share.run)
        with trio.move_on_after(1) as scope:
            await share.work(HERE, handshake())
        assert scope.cancelled_caught
        assert (tidied, share.waiting) == ([True], 0)
        await trio.sleep(1000)  # what was spent is paid
        assert await share.work(THERE, steps(1, [], "b")) == "b"
        nursery.cancel_scope.cancel()


async def test_timeouts_and_errors_inside_stay_inside() -> None:
    async def handshake() -> str:
        with trio.move_on_after(0):
            await trio.sleep_forever()
        raise ValueError("the end")

    with pytest.raises(ValueError, match="the end"):
        await HandshakeShare().work(None, handshake())


async def test_a_defect_that_is_triggered_at_will_is_written_once_a_minute(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    complaints = Complaints(logging.getLogger("test"))
    for _ in range(1000):
        complaints.about("the handler of /a failed", ValueError("x"))
    complaints.about("the handler of /b failed", ValueError("y"))
    assert [record.getMessage() for record in caplog.records] == [
        "the handler of /a failed",
        "the handler of /b failed",
    ]
    await trio.sleep(EVERY)
    complaints.about("the handler of /a failed", ValueError("x"))
    assert "999 more" in caplog.records[-1].getMessage()
    assert complaints.total == 1002
