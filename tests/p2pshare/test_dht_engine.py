"""Nodes of the DHT find each other, keep records and tell them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from p2pshare.dht import Receipt
from p2pshare_protocols import peerid
from p2pshare_protocols.cid import CID, RAW
from tests.support_dht_world import FILE, World, open_world, providers, settle


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


async def test_alone_nothing_is_provided_and_nothing_found(world: World, autojump_clock: MockClock) -> None:
    _, dht, _ = await world.node()
    before = trio.current_time()
    assert await dht.provide(FILE) == Receipt(0, 0)
    assert await providers(dht) == {}
    assert trio.current_time() == before
    assert dht.status() == {"nodes": 0, "mode": "server", "why": "", "records": 1}


async def test_three_nodes_where_the_third_knows_only_the_second(world: World, autojump_clock: MockClock) -> None:
    a, dht_a, _ = await world.node()
    b, _, _ = await world.node()
    await a.connect(b.addresses()[0])
    await settle()
    assert await dht_a.provide(FILE) == Receipt(1, 1)
    c, dht_c, _ = await world.node()
    await c.connect(b.addresses()[0])
    await settle(0.1)
    assert await providers(dht_c) == {a.peer_id: (a.address,)}
    assert await c.connect(f"{c.addresses_of(a.peer_id)[0]}/p2p/{a.peer_id}") == a.peer_id


async def test_twenty_five_nodes(world: World, autojump_clock: MockClock) -> None:
    nodes = await world.nodes(25)
    assert all(int(str(dht.status()["nodes"])) >= 20 for _, dht, _ in nodes)
    receipt = await nodes[3][1].provide(FILE)
    assert receipt.stored == receipt.asked
    assert 20 <= receipt.asked <= 24
    assert set(await providers(nodes[20][1])) == {nodes[3][0].peer_id}
    assert set(await providers(nodes[3][1])) == set()  # ourselves left out


async def test_a_peer_is_found_by_its_id(world: World, autojump_clock: MockClock) -> None:
    nodes = await world.nodes(6)
    late, dht, _ = await world.node()
    await late.connect(nodes[2][0].addresses()[0])
    await settle(0.1)
    assert await dht.find_peer(nodes[5][0].peer_id) == (nodes[5][0].address,)
    assert await dht.find_peer(peerid.peer_id_from_ed25519(bytes(32))) == ()


async def test_a_client_asks_but_is_not_asked(world: World, autojump_clock: MockClock) -> None:
    nodes = await world.nodes(3)
    client, dht, _ = await world.node(listens=False)
    await client.connect(nodes[0][0].addresses()[0])
    await settle()
    assert dht.status()["mode"] == "client"
    assert (await dht.provide(FILE)).stored == 3
    assert set(await providers(nodes[1][1])) == {client.peer_id}
    assert all(int(str(other.status()["nodes"])) <= 2 for _, other, _ in nodes)


async def test_hanging_nodes_cost_seconds_not_minutes(world: World, autojump_clock: MockClock) -> None:
    nodes = await world.nodes(25)
    for net, _, _ in nodes[20:]:
        net.dead = True
        for other, _, _ in nodes:
            if other.peer_id in net.connected:
                await net.disconnect(other.peer_id)
        net.handlers.clear()
    before = trio.current_time()
    receipt = await nodes[3][1].provide(FILE)
    assert receipt.stored >= 14
    assert trio.current_time() - before < 12.0
    before = trio.current_time()
    assert set(await providers(nodes[7][1])) == {nodes[3][0].peer_id}
    assert trio.current_time() - before < 6.0


async def test_the_first_provider_comes_before_the_search_ends(world: World, autojump_clock: MockClock) -> None:
    nodes = await world.nodes(5)
    await nodes[1][1].provide(FILE)
    silent = world.liar(lambda message: None)
    seeker, dht, _ = await world.node()
    await seeker.connect(silent.addresses()[0])
    await seeker.connect(nodes[0][0].addresses()[0])
    await settle(0.1)
    before = trio.current_time()
    async with dht.find_providers(FILE) as found:
        async for provider in found:
            assert provider.peer_id == nodes[1][0].peer_id
            assert trio.current_time() == before
            break


async def test_an_error_in_the_middle_of_a_search_stays_what_it_is(world: World, autojump_clock: MockClock) -> None:
    nodes = await world.nodes(2)
    with pytest.raises(ZeroDivisionError):
        async with nodes[0][1].find_providers(FILE):
            raise ZeroDivisionError


async def test_questions_share_one_stream_that_is_opened_again(world: World, autojump_clock: MockClock) -> None:
    nodes = await world.nodes(2)
    net, dht, _ = nodes[1]
    opened = net.opened
    for number in range(10):
        assert await dht.provide(CID.of(RAW, b"%d" % number)) == Receipt(1, 1)
    assert net.opened == opened
    await settle(200.0)  # the server ends idle streams
    assert await dht.provide(FILE) == Receipt(1, 1)
    assert net.opened > opened
