"""The race of a peer's addresses, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio
import trio.testing

from p2pshare.errors import RemoteError, Unreachable
from p2pshare.net.dialer import STAGGER, Dialer
from p2pshare.net.upgrade import Upgraded


class Secure:
    def __init__(self) -> None:
        self.aborted = False

    async def abort(self) -> None:
        self.aborted = True


class World:
    """Addresses that answer after so many seconds (None: never), or are refused after so many seconds (negative)."""

    def __init__(self, nursery: trio.Nursery, **addresses: float | None) -> None:
        self.addresses = addresses
        self.started: list[tuple[str, float]] = []
        self.won: list[str] = []
        self.made: list[Secure] = []
        self.dialer = Dialer(self.attempt, self.take, nursery)

    async def attempt(self, peer_id: str, address: str) -> Upgraded:
        self.started.append((address, round(trio.current_time() - self.start, 3)))
        answer = self.addresses[address]
        await trio.sleep(3600 if answer is None else abs(answer))
        if answer is None or answer < 0:
            raise Unreachable(f"{address}: refused")
        self.made.append(Secure())
        return Upgraded(cast(Any, None), cast(Any, self.made[-1]), "", "")

    async def take(self, dialled: Any) -> None:
        self.won.append(dialled.address)

    async def dial(self, *addresses: str, impatient: bool = False) -> float:
        """Seconds that the dial took."""
        self.start = trio.current_time()
        self.started.clear()
        await self.dialer.dial("peer", addresses, impatient=impatient)
        return round(trio.current_time() - self.start, 3)


Play = Callable[[World], Awaitable[None]]


async def play(play: Play, **addresses: float | None) -> None:
    async with trio.open_nursery() as nursery:
        await play(World(nursery, **addresses))
        nursery.cancel_scope.cancel()


async def test_the_first_that_answers_wins_and_starts_are_staggered(autojump_clock: trio.testing.MockClock) -> None:
    async def check(world: World) -> None:
        assert await world.dial("slow", "dead", "quick") == pytest.approx(2 * STAGGER + 0.1)
        assert world.won == ["quick"]
        assert world.started == [("slow", 0), ("dead", STAGGER), ("quick", 2 * STAGGER)]

    await play(check, slow=5.0, dead=None, quick=0.1)


async def test_a_single_address_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async def check(world: World) -> None:
        assert await world.dial("quick") == 0.01

    await play(check, quick=0.01)


async def test_a_refusal_starts_the_next_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async def check(world: World) -> None:
        assert await world.dial("closed", "quick") == pytest.approx(0.03)

    await play(check, closed=-0.01, quick=0.02)


async def test_a_failed_address_pauses_alone_and_a_new_one_is_tried_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def check(world: World) -> None:
        with pytest.raises(Unreachable, match="refused"):
            await world.dial("closed")
        with pytest.raises(Unreachable, match="a moment ago"):
            await world.dial("closed")
        assert world.started == []
        await world.dial("closed", "quick")
        assert [address for address, _ in world.started] == ["quick"]
        with pytest.raises(Unreachable):
            await world.dial("closed", impatient=True)
        assert [address for address, _ in world.started] == ["closed"]
        await trio.sleep(10)
        with pytest.raises(Unreachable, match="refused"):
            await world.dial("closed")

    await play(check, closed=-0.01, quick=0.02)


async def test_dials_to_one_peer_share_an_attempt(autojump_clock: trio.testing.MockClock) -> None:
    async def check(world: World) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(world.dial, "quick")
        assert len(world.won) == 1

    await play(check, quick=1.0)


async def test_who_leaves_does_not_end_the_dial_for_others(autojump_clock: trio.testing.MockClock) -> None:
    async def check(world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.dial, "quick")
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0.1):
                await world.dial("quick")
        assert world.won == ["quick"]

    await play(check, quick=1.0)


async def test_a_shared_attempt_that_fails_leaves_new_addresses_to_be_tried(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def check(world: World) -> None:
        async with trio.open_nursery() as nursery:

            async def first() -> None:
                with pytest.raises(Unreachable):
                    await world.dial("closed")

            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            await world.dial("quick")
        assert world.won == ["quick"]

    await play(check, closed=-1.0, quick=0.1)


async def test_of_two_that_answer_at_once_one_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    async def check(world: World) -> None:
        await world.dial("a", "b")
        assert len(world.won) == 1
        assert len(world.made) - sum(s.aborted for s in world.made) == 1

    await play(check, a=2 * STAGGER, b=STAGGER)


async def test_a_peer_without_addresses_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async def check(world: World) -> None:
        with pytest.raises(RemoteError, match="no address"):
            await world.dial()

    await play(check)


async def test_a_defect_met_in_dialling_is_one_failed_address_and_ends_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def attempt(peer_id: str, address: str) -> Upgraded:
        if address == "strange":
            raise ValueError("what nobody thought of")
        return Upgraded(cast(Any, None), cast(Any, Secure()), "", "")

    async def take(dialled: Any) -> None:
        if peer == "strange":
            raise KeyError("neither of this")

    async with trio.open_nursery() as nursery:
        dialer = Dialer(attempt, take, nursery)
        peer = "peer"
        with pytest.raises(RemoteError, match="unknown way"):
            await dialer.dial(peer, ["strange"])
        await dialer.dial(peer, ["strange", "good"])
        peer = "strange"
        with pytest.raises(RemoteError, match="not taken"):
            await dialer.dial(peer, ["good"])
        peer = "peer"
        await dialer.dial(peer, ["good"])
        nursery.cancel_scope.cancel()
