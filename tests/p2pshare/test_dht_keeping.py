"""What a node keeps for others, for how long, and how what it provides itself stays findable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from p2pshare.dht import Receipt, open_dht
from p2pshare.dht.records import LIFE, REPUBLISH
from p2pshare.store.providers import Bounds
from p2pshare_protocols import kad_messages, varint
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.kad_messages import Kind, Message, Peer
from tests.support_dht import FakeNetwork
from tests.support_dht_world import FILE, World, call, open_world, providers, settle


def claim(net: FakeNetwork, cid: CID) -> bytes:
    own = Peer(net.peer_id, (net.address,))
    return kad_messages.frame(Message(Kind.ADD_PROVIDER, key=cid.multihash, providers=(own,)))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def test_private_addresses_stay_in_the_private_network(world: World, autojump_clock: MockClock) -> None:
    a, dht, _ = await world.node()
    b, _, _ = await world.node()
    await a.connect(b.addresses()[0])
    await settle()
    await dht.provide(FILE)
    stranger = world.board.node()
    stranger.address = "/ip4/8.8.8.8/tcp/4001"
    question = kad_messages.frame(Message(Kind.GET_PROVIDERS, key=FILE.multihash))
    told = await call(stranger, b, question)
    assert told is not None
    _, at = varint.decode(told)
    answer = kad_messages.decode(told[at:])
    assert [peer.peer_id for peer in answer.providers] == [a.peer_id]
    assert all(not peer.addresses for peer in (*answer.providers, *answer.closer))


async def test_records_end_after_two_days_and_are_repeated_before(world: World, autojump_clock: MockClock) -> None:
    again: list[tuple[CID, Receipt]] = []
    a, dht, _ = await world.node(
        announced=lambda: [FILE], reannounced=lambda cid, receipt: again.append((cid, receipt))
    )
    b, _, store = await world.node()
    await a.connect(b.addresses()[0])
    await settle()
    await dht.provide(FILE)
    await settle(1000)
    assert again == []
    world.clock.now += REPUBLISH + 1
    await settle(700)
    assert again == [(FILE, Receipt(1, 1))]
    (_, _, expires), *_ = store.providers.get(FILE.multihash, world.clock.now)
    assert expires == world.clock.now + LIFE
    world.clock.now += LIFE + 1
    assert store.providers.get(FILE.multihash, world.clock.now) == []
    world.clock.now += 1


@pytest.mark.parametrize(("hours", "repeated"), [(5, 0), (-5, 1), (60, 1), (-60, 1)])
async def test_a_clock_that_jumps_loses_nothing(
    world: World, autojump_clock: MockClock, hours: float, repeated: int
) -> None:
    again: list[Receipt] = []
    a, dht, _ = await world.node(announced=lambda: [FILE], reannounced=lambda _, receipt: again.append(receipt))
    b, other, store = await world.node()
    await a.connect(b.addresses()[0])
    await settle()
    await dht.provide(FILE)
    world.clock.now += hours * 3600
    if hours < LIFE / 3600:
        assert set(await providers(other)) == {a.peer_id}
    await settle(1300)
    assert again == [Receipt(1, 1)] * repeated
    assert set(await providers(other)) == {a.peer_id}
    assert dht.status()["nodes"] == other.status()["nodes"] == 1
    (_, _, expires), *_ = store.providers.get(FILE.multihash, world.clock.now)
    assert expires <= world.clock.now + LIFE


async def test_what_failed_is_tried_again_soon(world: World, autojump_clock: MockClock) -> None:
    again: list[Receipt] = []
    a, dht, _ = await world.node(announced=lambda: [FILE], reannounced=lambda _, receipt: again.append(receipt))
    assert await dht.provide(FILE) == Receipt(0, 0)
    b, _, _ = await world.node()
    await a.connect(b.addresses()[0])
    await settle(700)
    assert again == [Receipt(1, 1)]


async def test_the_table_is_remembered(world: World, autojump_clock: MockClock, tmp_path: Path) -> None:
    b, _, _ = await world.node()
    a = world.board.node()
    store = world.store(a)
    async with open_dht(a, store, allow_private=True) as dht:
        await a.connect(b.addresses()[0])
        await settle()
        assert dht.status()["nodes"] == 1
    await a.disconnect(b.peer_id)
    a.book.clear()
    async with open_dht(a, store, allow_private=True) as dht:
        await settle()
        assert dht.status()["nodes"] == 1


async def test_caps_of_a_key(world: World, autojump_clock: MockClock) -> None:
    server, _, store = await world.node()
    store.providers.bounds = Bounds(key=3, peer=5)
    strangers = [world.board.node() for _ in range(5)]
    for _ in range(2):
        for net in strangers:
            own = Peer(net.peer_id, (net.address,))
            await call(
                net, server, kad_messages.frame(Message(Kind.ADD_PROVIDER, key=FILE.multihash, providers=(own,)))
            )
    assert store.providers.count() == 3
    for number in range(10):
        await call(strangers[0], server, claim(strangers[0], CID.of(RAW, b"%d" % number)))
    assert store.providers.count(peer_id=strangers[0].peer_id) == 5
