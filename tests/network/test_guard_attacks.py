"""The guard's table: each attack is a process, the network attacked another, and an honest peer is served meanwhile.

Counts, survival, memory and completion are asserted here; how quick it stays is measured by `python -m bench guard`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pshare_protocols.yamux_frames import PROTOCOL_ERROR
from tests.support_guard import Times, Victim, attack, dial_once, ping_all_along, victim, whole

MIB = 1 << 20
pytestmark = pytest.mark.slow


@asynccontextmanager
async def honest_peer(target: Victim) -> AsyncIterator[list[float]]:
    """Pings all along; every one must be answered, and there must be some after the attack."""
    times = Times()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping_all_along, target.address, 9, times)
        yield times
        before = len(times)
        with trio.fail_after(20):
            await times.reach(before + 5)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "count", "answer"),
    [
        ("bad_names_bare", 300, {"sent": 300}),
        ("bad_names_inside", 1000, {"broken": 1000}),
        ("raising", 1000, {"broken": 1000}),
    ],
)
async def test_bad_names_and_raising_handlers_end_nothing_but_their_stream(
    name: str, count: int, answer: dict[str, int]
) -> None:
    with victim() as target:
        async with honest_peer(target):
            assert await whole(name, target, count=count) == answer
        figures = await target.asks()
        assert figures["raised"] == (1000 if name == "raising" else 0)
        assert figures["status"]["handler_errors"] == figures["raised"]


async def test_connections_one_after_another_are_answered_and_leave_nothing_behind() -> None:
    with victim(trace=True) as target:
        assert await whole("one_after_another", target, count=100) == {"answered": 100}
        warm = await target.asks()
        assert await whole("one_after_another", target, count=300) == {"answered": 300}
        after = await target.asks()
        assert after["traced"] - warm["traced"] < 300 * 1024
        assert after["tasks"] <= warm["tasks"] + 5


@pytest.mark.parametrize("name", ["silent", "mid_handshake", "many_addresses"])
async def test_a_thousand_half_open_connections_do_not_shut_out_honest_peers(name: str) -> None:
    with victim() as target, attack(name, target, count=1000, seconds=60, source="127.0.5.5") as attacker:
        assert "ready" in await attacker.hears()
        reached = [await dial_once(target.address, 100 + number) for number in range(15)]
        assert None not in reached
        status = (await target.asks())["status"]
        assert status["half_open"] <= (128 if name == "many_addresses" else 9)
        assert status["refused"]["half_open"] > 500


async def test_a_flood_of_handshakes_lets_honest_peers_in_and_is_held_to_its_share() -> None:
    with victim() as target:
        async with honest_peer(target):
            before = await target.asks()
            with attack("handshakes", target, seconds=5, source="127.0.5.5") as attacker:
                await attacker.hears()
                assert await dial_once(target.address, 100) is not None
                done = (await attacker.hears())["done"]
            after = await target.asks()
        assert done["made"] > 10
        spent = after["status"]["handshakes"]["cpu_seconds"] - before["status"]["handshakes"]["cpu_seconds"]
        assert 0.01 < spent < 0.2 * 5 * 2


@pytest.mark.parametrize(
    ("name", "count"), [("ignore_window", 200), ("hoard_streams", 10_000), ("announce_much", 100), ("never_opened", 10)]
)
async def test_who_breaks_the_muxers_rules_is_told_why_and_costs_little(name: str, count: int) -> None:
    with victim() as target:
        async with honest_peer(target):
            before = await target.asks()
            assert await whole(name, target, count=count) == {"reason": PROTOCOL_ERROR}
            after = await target.asks()
        assert after["rss"] - before["rss"] < 64 * MIB


async def test_streams_hoarded_on_sixty_connections_are_bounded_together() -> None:
    with victim(private=True, limits={"connections": 100, "streams": 1000}) as target:
        before = await target.asks()
        with attack("hoard_pings", target, count=60) as attacker:
            assert "ready" in await attacker.hears()
            after = await target.asks()
            assert await dial_once(target.address, 99) is not None
        assert 1000 <= after["status"]["streams"] <= 1000 + 60 * 8
        assert after["status"]["refused"]["streams"] > 5000
        assert after["rss"] - before["rss"] < 64 * MIB


async def test_streams_reset_as_fast_as_they_are_opened_end_the_connection() -> None:
    with victim() as target:
        async with honest_peer(target):
            done = await whole("resets", target, count=50_000, seconds=20)
        assert done["reason"] in (PROTOCOL_ERROR, "lost")
        assert done["sent"] < 50_000


async def test_fifty_peers_that_never_read_do_not_hold_up_the_end() -> None:
    target = Victim(private=True)
    with attack("never_read", target, count=50) as attacker:
        assert "ready" in await attacker.hears()
        with trio.fail_after(20):
            while (await target.asks())["status"]["connections"] != 50:
                pass  # the last one's handshake has ended at its side only
            assert await trio.to_thread.run_sync(target.terminate) == 0
    target.end()


async def test_a_few_descriptors_are_never_used_up_by_connections() -> None:
    with victim(private=True, descriptors=64) as target:
        with attack("connections", target, count=200) as attacker:
            assert "ready" in await attacker.hears()
            figures = await target.asks()
            assert figures["descriptors"] <= 64 - 10
            assert figures["status"]["refused"]["descriptors"] > 50
        assert await dial_once(target.address, 100) is not None
