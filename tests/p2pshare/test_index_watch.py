"""Searches that go on, in virtual time: when they ask, whom, and that each result is told once."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pshare.errors import NotFound, QuotaExceeded, Unreachable
from p2pshare.index.watch import INTERVAL, Emit, SomePeers, Watcher, newest_of_peers
from p2pshare.store import Store, open_store
from p2pshare.store.watches import MOST, TOLD
from tests.support_search import MemoryNetwork

RAFT = {"query": "raft", "filters": {}}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        yield opened


class World:
    """A network that answers as it is told: `has` are the CIDs it finds, `newest` what each peer says of itself."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.has: list[str] = []
        self.newest: dict[str, int] = {}
        self.asked: list[tuple[float, str, Collection[str] | None]] = []
        self.broken = False
        self.watcher = Watcher(store, self.ask, self.ask_newest, rng=random.Random(1), wall_clock=trio.current_time)

    async def ask(self, params: Mapping[str, Any], emit: Emit, peers: Collection[str] | None) -> None:
        self.asked.append((trio.current_time(), params["query"], peers))
        await trio.lowlevel.checkpoint()
        for cid in self.has:
            await emit({"event": "result", "cid": cid, "link": f"p2pshare:{cid}", "name": cid})
            await emit({"event": "result", "cid": cid, "link": f"p2pshare:{cid}", "name": cid, "update": True})
        if self.broken:
            raise Unreachable("no way")

    async def ask_newest(self) -> Mapping[str, int]:
        await trio.lowlevel.checkpoint()
        return dict(self.newest)

    def told(self) -> list[tuple[int, str]]:
        return [(event.body["watch"], event.body["cid"]) for event in self.store.events.since(0, ["search"])]


Change = Callable[[World], None]


def has(*cids: str) -> Change:
    return lambda world: setattr(world, "has", list(cids))


def newest(**numbers: int) -> Change:
    return lambda world: setattr(world, "newest", numbers)


# What is there at the start; what changes a minute later, and then each ten minutes; what is told after each.
TABLE: dict[str, tuple[list[Change], list[list[str]]]] = {
    "what was there already is told once": ([has("a", "b"), has("a", "b")], [["a", "b"], []]),
    "what comes later is told when it comes": ([has("a"), has("a", "b")], [["a"], ["b"]]),
    "what goes and comes back is not new": ([has("a"), has(), has("a")], [["a"], [], []]),
    "nothing is told of nothing": ([has(), has()], [[], []]),
}


@pytest.mark.parametrize("case", TABLE)
async def test_what_is_told(case: str, store: Store, autojump_clock: MockClock) -> None:
    changes, wanted = TABLE[case]
    world = World(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.watcher.run)
        changes[0](world)
        number = world.watcher.start(RAFT).id
        seen: list[tuple[int, str]] = []
        for change, cids in zip(changes, wanted, strict=True):
            change(world)
            await trio.sleep(600)
            assert world.told()[len(seen) :] == [(number, cid) for cid in cids]
            seen = world.told()
        nursery.cancel_scope.cancel()


async def test_the_network_is_asked_at_once_and_then_about_every_five_minutes(
    store: Store, autojump_clock: MockClock
) -> None:
    world = World(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.watcher.run)
        await trio.sleep(1000)
        assert world.asked == []
        world.watcher.start(RAFT)
        await trio.sleep(20 * INTERVAL)
        nursery.cancel_scope.cancel()
    times = [when for when, _, peers in world.asked if peers is None]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert times[0] == 1000
    assert 16 <= len(times) <= 27
    assert all(0.75 * INTERVAL <= gap <= 1.26 * INTERVAL for gap in gaps)
    assert len({round(gap) for gap in gaps}) > 5  # no beat that all nodes share


async def test_a_peer_that_shares_something_new_is_asked_soon_and_alone(
    store: Store, autojump_clock: MockClock
) -> None:
    world = World(store)
    world.newest = {"alice": 5, "bob": 9}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.watcher.run)
        world.watcher.start(RAFT)
        await trio.sleep(100)
        assert [peers for _, _, peers in world.asked] == [None, {"alice", "bob"}]  # new to us, then nothing is new
        world.newest = {"alice": 6, "bob": 9}
        world.has = ["fresh"]
        await trio.sleep(20)
        assert [peers for _, _, peers in world.asked[2:]] == [{"alice"}]
        assert [cid for _, cid in world.told()] == ["fresh"]
        world.newest = {"alice": 3, "bob": 9}  # it lost something: nothing is new
        await trio.sleep(60)
        assert len(world.asked) == 3
        nursery.cancel_scope.cancel()


async def test_it_goes_on_after_a_restart_and_tells_nothing_twice(tmp_path: Path, autojump_clock: MockClock) -> None:
    with open_store(tmp_path) as store:
        world = World(store)
        world.has = ["a"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.watcher.run)
            number = world.watcher.start(RAFT, known=["seen by the client"]).id
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    with open_store(tmp_path) as store:
        world = World(store)
        world.has = ["a", "seen by the client", "b"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.watcher.run)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
        assert world.told() == [(number, "a"), (number, "b")]
        [watch] = store.watches.list()
        assert (watch.found, watch.params, watch.asked > 0) == (2, RAFT, True)


async def test_what_is_removed_asks_no_more_and_a_round_that_fails_is_tried_again(
    store: Store, autojump_clock: MockClock
) -> None:
    world = World(store)
    world.broken = True
    world.has = ["a"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.watcher.run)
        number = world.watcher.start(RAFT).id
        assert world.watcher.start(RAFT).id == number
        await trio.sleep(1)
        assert world.told() == []
        world.broken = False
        await trio.sleep(2 * INTERVAL)
        assert world.told() == [(number, "a")]
        world.watcher.remove(number)
        asked = len(world.asked)
        await trio.sleep(10 * INTERVAL)
        assert len(world.asked) == asked
        with pytest.raises(NotFound):
            world.watcher.remove(number)
        nursery.cancel_scope.cancel()


async def test_watches_and_what_they_remember_are_bounded(store: Store) -> None:
    for number in range(MOST):
        store.watches.add({"query": f"raft {number}"}, since=0)
    with pytest.raises(QuotaExceeded):
        store.watches.add({"query": "one more"}, since=0)
    assert store.watches.add({"query": "raft 3"}, since=0)[1] is False
    many = [f"cid {number}" for number in range(TOLD + 10)]
    assert len(store.watches.fresh(1, many)) == TOLD + 10
    assert store.watches.fresh(1, many[-TOLD:]) == set()
    assert store.watches.fresh(1, many[:5]) == set(many[:5])  # the oldest are forgotten, and so told again
    assert store.watches.fresh(2, many[:5]) == set(many[:5])


async def test_peers_say_what_is_newest_and_others_say_nothing(autojump_clock: MockClock) -> None:
    from p2pshare.net.api import Stream
    from p2pshare_protocols.index_browse import encode_end

    async def seven(stream: Stream) -> None:
        async with stream:
            await stream.send_all(encode_end(complete=False, after=0, newest=7))

    async def hanging(stream: Stream) -> None:
        await trio.sleep_forever()

    async def garbage(stream: Stream) -> None:
        await stream.send_all(b"\xff" * 100)

    async with trio.open_nursery() as nursery:
        net = MemoryNetwork(nursery, "me")
        for name, handler in (("seven", seven), ("hanging", hanging), ("garbage", garbage)):
            net.add_peer(name, handler)
        assert await newest_of_peers(net.net, random.Random(1))() == {"seven": 7}
        assert SomePeers(net.net, {"seven", "elsewhere"})._speakers() == ["seven"]
        nursery.cancel_scope.cancel()
