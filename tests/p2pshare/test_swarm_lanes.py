"""A fresh connection beside one that has gone silent, on a clock that only jumps: which of the two stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from p2pshare.errors import Unreachable
from p2pshare.exchange.source import Source
from p2pshare.exchange.swarm import BESIDE_AGAIN, RELIEVED, Swarm
from p2pshare.exchange.wire import FrameReader
from p2pshare.net.api import Stream
from p2pshare_protocols import exchange_messages as x
from tests.support_exchange import MemoryNetwork, MemoryStream, World, stream_pair

ROOT = b"\x01\x55\x12\x20" + bytes(32)


class _Lane(MemoryStream):
    """One end whose connection counts what comes, and can be given up."""

    received = 0
    abandoned = False

    @property
    def connection_received(self) -> int:
        return self.received

    def abandon_connection(self) -> None:
        self.abandoned = True
        self.world.nursery.start_soon(self.reset)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await super().receive_some(max_bytes)
        self.received += len(data)
        return data

    world: World


class _Network(MemoryNetwork):
    """Every stream is a connection of its own. `answers`: whether the holder answers on new ones."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "near")
        self.lanes: list[_Lane] = []
        self.answers = True
        self.reachable = True

    async def open_stream(self, peer_id: str, protocols: Sequence[str], *, timeout: float = 10.0) -> Stream:
        if not self.reachable:
            await trio.sleep(timeout)
            raise Unreachable("nobody there")
        _, theirs = stream_pair(self.peer_id, peer_id, x.PROTOCOL)
        lane = _Lane(peer_id, x.PROTOCOL)
        lane.world = self.world
        lane.other, theirs.other = theirs, lane
        self.lanes.append(lane)
        self.world.nursery.start_soon(self._hold, theirs, self.answers)
        return lane

    async def open_stream_beside(self, peer_id: str, protocols: Sequence[str], *, timeout: float = 10.0) -> Stream:
        return await self.open_stream(peer_id, protocols, timeout=timeout)

    @staticmethod
    async def _hold(stream: MemoryStream, answers: bool) -> None:
        frames = FrameReader(stream)
        try:
            while (message := await frames.header()) is not None:
                if isinstance(message, x.Have) and answers:
                    await stream.send_all(x.encode(x.Held(message.id, x.Holding.ALL)))
        except trio.BrokenResourceError:
            return


@asynccontextmanager
async def one_source(nursery: trio.Nursery) -> AsyncIterator[tuple[Swarm, _Network, list[str]]]:
    """A swarm with one lane to `far`, and what was told of joining and leaving."""
    network = _Network(World(nursery))
    swarm = Swarm(network, ROOT)
    told: list[str] = []

    async def arrived(*_: object) -> None:
        return

    def join(source: Source) -> None:
        told.append(f"+{source.name}")

    def leave(source: Source) -> None:
        told.append(f"-{source.name}")

    swarm.attach(join, leave, arrived, lambda source, count: None)
    nursery.start_soon(swarm.run)
    swarm.offer("far")
    await trio.sleep(0.1)
    assert told == ["+far"]
    yield swarm, network, told
    nursery.cancel_scope.cancel()


async def test_a_fresh_connection_replaces_a_dead_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with one_source(nursery) as (swarm, network, told):
        swarm.refresh("far")
        await trio.sleep(0.1)
        assert network.lanes[0].abandoned
        assert not network.lanes[1].abandoned
        assert sorted(told) == ["+far", "+far#2", "-far"]
        assert list(swarm.lanes) == ["far#2"]
        assert swarm.sources["far"].name == "far#2"
        # The next one waits: a lane that was just replaced is given time.
        swarm.refresh("far")
        await trio.sleep(RELIEVED - 1)
        assert len(network.lanes) == 2
        await trio.sleep(1)
        swarm.refresh("far")
        await trio.sleep(0.1)
        assert list(swarm.lanes) == ["far#3"]


async def test_a_connection_that_came_back_to_life_stays_and_the_fresh_one_goes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with one_source(nursery) as (swarm, network, told):
        swarm.refresh("far")
        network.lanes[0].received += 1  # while the fresh one is being made
        await trio.sleep(0.1)
        assert not network.lanes[0].abandoned
        assert told == ["+far"]
        assert list(swarm.lanes) == ["far"]


async def test_a_fresh_connection_that_is_silent_too_changes_nothing_and_is_tried_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with one_source(nursery) as (swarm, network, told):
        network.reachable = False
        swarm.refresh("far")
        await trio.sleep(11)
        assert told == ["+far"]
        assert not network.lanes[0].abandoned
        network.reachable = True
        await trio.sleep(BESIDE_AGAIN)
        swarm.refresh("far")
        await trio.sleep(0.1)
        assert list(swarm.lanes) == ["far#3"]


@pytest.mark.parametrize("lanes", [2, 4])
async def test_several_dead_lanes_are_replaced_by_one_and_each_leaves_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, lanes: int
) -> None:
    async with one_source(nursery) as (swarm, _, told):
        for _ in range(1, lanes):
            swarm.widen("far")
            await trio.sleep(BESIDE_AGAIN + 0.1)
        assert len(swarm.lanes) == lanes
        swarm.refresh("far")
        await trio.sleep(0.1)
        assert list(swarm.lanes) == [f"far#{lanes + 1}"]
        assert sorted(name for name in told if name[0] == "-") == [
            f"-far{f'#{lane}' if lane > 1 else ''}" for lane in range(1, lanes + 1)
        ]
