"""Nodes that know nobody meet in a public DHT; who is told what, how often, and what strangers can make of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pshare.dht import DHT, Provider, Receipt, open_dht
from p2pshare.dht.engine import IPFS, OURS
from p2pshare.net.api import Stream
from p2pshare.node import meeting
from p2pshare.node.meeting import Meeting
from p2pshare.store import open_store
from p2pshare_protocols import multiaddr, rendezvous
from p2pshare_protocols.cid import CID
from tests.support_dht import Board, FakeNetwork
from tests.support_golden import golden

WALL = 1_800_000_000.0


def test_the_place_is_the_one_of_the_specification() -> None:
    place = golden("rendezvous.md", "place")
    assert place["block"] == rendezvous.SENTENCE
    assert place["cid"] == rendezvous.PLACE.binary
    assert str(rendezvous.PLACE) == "bafkreics75iaj73uzyrqg2n2kuphy7pfvmtoislg7zbdsnjje6ikraxqbq"


class World:
    """A public DHT of six nodes, and nodes of ours that know its first one."""

    def __init__(self, directory: Path, nursery: trio.Nursery, stores: ExitStack) -> None:
        self.board = Board(nursery)
        self._directory = directory
        self._nursery = nursery
        self._stores = stores
        self.public: list[FakeNetwork] = []

    def _store(self, net: FakeNetwork) -> Any:
        directory = self._directory / net.peer_id
        directory.mkdir()
        return self._stores.enter_context(open_store(directory, wall_clock=self.wall))

    def wall(self) -> float:
        return WALL + trio.current_time()

    def opener(self, net: FakeNetwork, protocol: str, mode: str, store: Any = None) -> Callable[[], Any]:
        options = {"allow_private": True, "rng": random.Random(1), "wall_clock": self.wall, "mode": mode}
        return partial(open_dht, net, store or self._store(net), networks=(protocol,), **options)  # type: ignore[arg-type]

    async def _keep(self, opener: Callable[[], Any], task_status: Any) -> None:
        async with opener() as dht:
            task_status.started(dht)
            await trio.sleep_forever()

    async def begin(self) -> None:
        for _ in range(6):
            net = self.board.node()
            await self._nursery.start(self._keep, self.opener(net, IPFS, "server"))
            if self.public:
                first = self.public[0]
                await net.connect(first.addresses()[0])
            self.public.append(net)

    async def node(self, *, bootstrap: Sequence[str] | None = None, **options: Any) -> tuple[FakeNetwork, DHT, Meeting]:
        """One of ours; its meeting does not run yet."""
        net = self.board.node(listens=options.pop("listens", True))
        store = self._store(net)
        dht: DHT = await self._nursery.start(self._keep, self.opener(net, OURS, "auto", store))

        async def resolve(addresses: Sequence[str]) -> dict[str, list[str]]:
            await trio.lowlevel.checkpoint()
            return {peer: [plain] for plain, peer in map(multiaddr.split_peer, addresses) if peer is not None}

        made = Meeting(
            net,
            self.opener(net, IPFS, "client", store),
            bootstrap=self.public[0].addresses() if bootstrap is None else bootstrap,
            serves=lambda: dht.status()["mode"] == "server",
            rng=random.Random(2),
            resolve=resolve,
            **options,
        )
        return net, dht, made


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    with ExitStack() as stores:
        async with trio.open_nursery() as nursery:
            made = World(directory, nursery, stores)
            await made.begin()
            yield made
            nursery.cancel_scope.cancel()


async def test_two_that_know_only_a_public_node_find_each_other(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        one, first, a = await here.node()
        two, second, b = await here.node()
        await a.visit()
        assert not one.is_connected(two.peer_id)
        await b.visit()
        assert two.is_connected(one.peer_id)
        await first.joined()
        await second.joined()
        assert (first.status()["nodes"], second.status()["nodes"]) == (1, 1)


async def test_a_client_looks_and_is_not_listed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        one, _, a = await here.node()
        two, _, b = await here.node(listens=False)
        three, _, c = await here.node()
        await b.visit()
        await a.visit()
        assert not one.is_connected(two.peer_id)
        await b.visit()
        assert two.is_connected(one.peer_id)
        await c.visit()
        assert three.is_connected(one.peer_id)
        assert not three.is_connected(two.peer_id)


async def test_with_enough_known_nothing_is_sent(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        nodes = [await here.node() for _ in range(meeting.ENOUGH + 2)]
        net, _, made = nodes[0]
        await made.visit()
        for other, _, _ in nodes[1:]:
            await net.connect(other.addresses()[0])
        made._open_public = _never  # type: ignore[assignment]
        await made.visit()
        assert made.status() == {"visits": 1, "dialled": 0, "provided": True}


async def test_false_providers_cost_a_bounded_number_of_dials(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "MAX_DIALS", 20)
    async with world(tmp_path) as here:
        for _ in range(40):
            liar = here.board.node()  # it speaks the public DHT's protocol and not ours
            async with here.opener(liar, IPFS, "client")() as dht:
                await liar.connect(here.public[0].addresses()[0])
                await dht.joined()
                await dht.provide(rendezvous.PLACE)
        net, _, made = await here.node()
        await made.visit()
        assert made.status()["dialled"] == 20
        assert net.connected <= {public.peer_id for public in here.public}  # the others were let go


class CountingDht(DHT):
    """A public DHT in which nobody else is; notes when it was opened and when something was provided."""

    def __init__(self) -> None:
        self.opened: list[float] = []
        self.provided: list[float] = []
        self.keeps = True

    @asynccontextmanager
    async def open(self) -> AsyncIterator[DHT]:
        self.opened.append(trio.current_time())
        yield self

    async def joined(self) -> None:
        await trio.lowlevel.checkpoint()

    async def provide(self, cid: CID) -> Receipt:
        assert cid == rendezvous.PLACE
        await trio.lowlevel.checkpoint()
        self.provided.append(trio.current_time())
        return Receipt(20 if self.keeps else 0, 20)

    @asynccontextmanager
    async def find_providers(self, cid: CID) -> AsyncIterator[AsyncIterator[Provider]]:
        send, receive = trio.open_memory_channel[Provider](0)
        send.close()
        with receive:
            yield receive

    async def find_peer(self, peer_id: str) -> tuple[str, ...]:
        raise NotImplementedError

    async def put_value(self, key: bytes, value: bytes) -> Receipt:
        raise NotImplementedError

    async def get_value(self, key: bytes) -> bytes | None:
        raise NotImplementedError

    def status(self) -> dict[str, object]:
        return {}


@asynccontextmanager
async def alone(dht: CountingDht, serves: Callable[[], bool]) -> AsyncIterator[tuple[FakeNetwork, Meeting]]:
    """A node whose meeting runs."""
    async with trio.open_nursery() as nursery:
        net = Board(nursery).node()
        made = Meeting(net, dht.open, bootstrap=(), serves=serves, rng=random.Random(2))
        nursery.start_soon(made.run)
        yield net, made
        nursery.cancel_scope.cancel()


def pauses(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def test_who_met_nobody_comes_again_later_and_later(autojump_clock: MockClock) -> None:
    dht = CountingDht()
    async with alone(dht, lambda: False):
        await trio.sleep(100 * 3600)
    waited = pauses(dht.opened)
    assert 45 <= waited[0] <= 75
    assert all(6 * 3600 * 0.75 <= pause <= 6 * 3600 * 1.25 for pause in waited[9:])
    assert len(set(waited)) == len(waited)
    assert not dht.provided


async def test_what_is_provided_is_renewed_before_it_ends(autojump_clock: MockClock) -> None:
    dht = CountingDht()
    async with alone(dht, lambda: True):
        await trio.sleep(1000 * 3600)
    assert all(19 * 3600 < pause < 22 * 3600 for pause in pauses(dht.provided))
    assert len(dht.provided) > 40


async def test_what_was_not_kept_is_provided_again_soon(autojump_clock: MockClock) -> None:
    dht = CountingDht()
    dht.keeps = False
    async with alone(dht, lambda: True) as (_, made):
        await trio.sleep(300)
        assert len(dht.provided) >= 2
        assert not made.status()["provided"]


async def test_one_that_lost_its_last_peer_comes_again_soon(autojump_clock: MockClock) -> None:
    dht = CountingDht()
    async with alone(dht, lambda: False) as (net, _):
        other = net.board.node()
        other.handle(OURS, _silent)
        await net.connect(other.addresses()[0])
        await trio.sleep(3600)
        assert len(dht.opened) == 1
        await net.disconnect(other.peer_id)
        await trio.sleep(meeting.CHECK_SECONDS + 1)
        assert dht.opened[1] <= 3600 + meeting.CHECK_SECONDS


async def _silent(stream: Stream) -> None:
    await stream.aclose()


async def test_one_that_became_reachable_says_so_at_once(autojump_clock: MockClock) -> None:
    dht, reached = CountingDht(), trio.Event()
    async with alone(dht, reached.is_set) as (_, made):
        await trio.sleep(50 * 3600)
        assert not made.status()["provided"]
        reached.set()
        made.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert made.status()["provided"]


async def test_a_public_dht_out_of_reach_is_no_trouble(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        dead = here.public[0]
        dead.dead = True
        net, _, made = await here.node()
        await made.visit()
        assert not net.connected


async def test_the_second_visit_asks_those_of_the_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as here:
        net, _, made = await here.node()
        await made.visit()
        for peer in list(net.connected):
            await net.disconnect(peer)
        made._resolve = _never  # type: ignore[assignment]
        await made.visit()
        assert net.connected


def _never(*_: object) -> None:
    raise AssertionError("this was not to be used")
