"""Many items are announced in few conversations, at a bounded rate, and not again after a restart."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from p2pshare.dht import DHT, Receipt, open_dht
from p2pshare.store import Store, open_store
from p2pshare_protocols.cid import CID, RAW
from tests.support_dht import Board, FakeNetwork

ITEMS = [CID.of(RAW, b"item %d" % number) for number in range(300)]


class Wall:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def servers(directory: Path, count: int, wall: Wall) -> AsyncIterator[tuple[Board, list[Store]]]:
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            board = Board(nursery)
            stores = []

            async def serve(net: FakeNetwork, store: Store, task_status: Any) -> None:
                async with open_dht(net, store, allow_private=True, wall_clock=wall, rng=random.Random(1)):
                    task_status.started()
                    await trio.sleep_forever()

            for number in range(count):
                home = directory / str(number)
                home.mkdir()
                stores.append(stack.enter_context(open_store(home)))
                await nursery.start(serve, board.node(), stores[-1])
            yield board, stores
            nursery.cancel_scope.cancel()


def announce(dht: DHT) -> dict[str, Any]:
    return cast("dict[str, Any]", dht.status()["announce"])


async def test_many_items_take_few_conversations_and_no_repetition(tmp_path: Path, autojump_clock: MockClock) -> None:
    wall = Wall()
    heard: dict[CID, Receipt] = {}
    async with servers(tmp_path, 5, wall) as (board, stores):
        us = board.node()
        (tmp_path / "us").mkdir()
        with open_store(tmp_path / "us") as store:
            options: dict[str, Any] = {
                "allow_private": True,
                "wall_clock": wall,
                "announced": lambda: ITEMS,
                "reannounced": heard.__setitem__,
                "rate": 100.0,
            }
            async with open_dht(us, store, **options) as dht:
                for net in list(board.nodes.values())[:-1]:
                    await us.connect(net.addresses()[0])
                await trio.sleep(31.0)
                assert announce(dht)["due"] == 300
                assert len(heard) == 0
                await trio.sleep(30.0)  # 1,500 messages at 100 a second take 15
                assert heard == dict.fromkeys(ITEMS, Receipt(5, 5))
                assert announce(dht) == {"items": 300, "due": 0, "oldest": 0.0, "rate": 100.0, "behind": ""}
                assert us.opened <= 6
                assert all(kept.providers.count(peer_id=us.peer_id) == 300 for kept in stores)
            heard.clear()
            async with open_dht(us, store, **options) as dht:
                await trio.sleep(700.0)
                assert heard == {}  # nothing is due: a restart does not start over
                wall.now += 22 * 3600
                await trio.sleep(700.0)
                assert len(heard) == 300


async def test_falling_behind_is_said_with_its_remedies(tmp_path: Path, autojump_clock: MockClock) -> None:
    wall = Wall()
    async with servers(tmp_path, 2, wall) as (board, _):
        us = board.node()
        (tmp_path / "us").mkdir()
        with open_store(tmp_path / "us") as store:
            async with open_dht(
                us, store, allow_private=True, wall_clock=wall, announced=lambda: ITEMS, rate=0.02
            ) as dht:
                await us.connect(next(iter(board.nodes.values())).addresses()[0])
                await trio.sleep(3000.0)
                assert announce(dht)["behind"] == ""
                await trio.sleep(3000.0)
                said = announce(dht)
                assert said["due"] == 300
                assert said["oldest"] > 3600
                assert said["behind"].startswith("announcing falls behind: raise dht.announce_rate")


@pytest.mark.parametrize("count", [1, 2])
async def test_a_node_that_keeps_nothing_is_not_counted(tmp_path: Path, autojump_clock: MockClock, count: int) -> None:
    wall = Wall()
    heard: dict[CID, Receipt] = {}
    async with servers(tmp_path, 2, wall) as (board, stores):
        stores[1].providers.bounds = type(stores[1].providers.bounds)(peer=0)
        us = board.node()
        (tmp_path / "us").mkdir()
        with open_store(tmp_path / "us") as store:
            async with open_dht(
                us,
                store,
                allow_private=True,
                wall_clock=wall,
                announced=lambda: ITEMS[:count],
                reannounced=heard.__setitem__,
            ):
                for net in list(board.nodes.values())[:-1]:
                    await us.connect(net.addresses()[0])
                await trio.sleep(60.0)
                assert heard == dict.fromkeys(ITEMS[:count], Receipt(1, 2))
