"""The DHT over real sockets, sessions and muxers: three nodes in a row, and strangers' bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pshare.dht import DHT, Receipt, open_dht
from p2pshare.dht.engine import OURS
from p2pshare.net.api import Network
from p2pshare.store import open_store
from p2pshare_protocols.cid import CID, RAW
from tests.support_net import network
from tests.support_until import until

FILE = CID.of(RAW, b"a file")


@asynccontextmanager
async def node(directory: Path, number: int, **options: Any) -> AsyncIterator[tuple[Network, DHT]]:
    home = directory / str(number)
    home.mkdir()
    with open_store(home) as store:
        async with network(number) as net, open_dht(net, store, allow_private=True, **options) as dht:
            yield net, dht


def knows(dht: DHT, count: int) -> Callable[[], bool]:
    return lambda: dht.status()["nodes"] == count


async def test_the_third_finds_the_first_through_the_second(tmp_path: Path) -> None:
    async with node(tmp_path, 1) as (a, dht_a), node(tmp_path, 2) as (b, dht_b):
        await a.connect(b.addresses()[0])
        await until(lambda: knows(dht_a, 1)() and knows(dht_b, 1)())
        assert await dht_a.provide(FILE) == Receipt(1, 1)
        async with node(tmp_path, 3) as (c, dht_c):
            await c.connect(b.addresses()[0])
            await until(lambda: int(str(dht_c.status()["nodes"])) >= 1)
            async with dht_c.find_providers(FILE) as found:
                providers = [provider async for provider in found]
            assert [provider.peer_id for provider in providers] == [a.peer_id]
            address = providers[0].addresses[0]
            assert f"{address}/p2p/{a.peer_id}" in a.addresses()
            assert await c.connect(f"{address}/p2p/{a.peer_id}") == a.peer_id
            assert await dht_c.find_peer(a.peer_id)


async def test_eight_nodes_that_know_one(tmp_path: Path) -> None:
    async with node(tmp_path, 1) as (first, _), trio.open_nursery() as nursery:

        async def run(number: int, task_status: Any) -> None:
            async with node(tmp_path, number) as made:
                await made[0].connect(first.addresses()[0])
                task_status.started(made)
                await trio.sleep_forever()

        nodes = [await nursery.start(run, number) for number in range(2, 9)]
        await until(lambda: all(knows(dht, 7)() for _, dht in nodes))
        assert await nodes[0][1].provide(FILE) == Receipt(7, 7)
        async with nodes[6][1].find_providers(FILE) as found:
            async for provider in found:
                assert provider.peer_id == nodes[0][0].peer_id
                break
            else:
                pytest.fail("not found")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff\xff", b"\x05hello", b"\x02\x08\x00"])
async def test_junk_resets_its_stream_and_nothing_else(tmp_path: Path, junk: bytes) -> None:
    async with node(tmp_path, 1) as (server, _), network(2) as stranger:
        await stranger.connect(server.addresses()[0])
        stream = await stranger.open_stream(server.peer_id, [OURS])
        await stream.send_all(junk)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(10):
            await stream.receive_some(100)
        async with await stranger.open_stream(server.peer_id, [OURS]) as stream:
            await stream.send_all(b"\x02\x08\x05")
            assert await stream.receive_exactly(3) == b"\x02\x08\x05"


async def test_a_node_that_vanished_does_not_hold_a_search_up(tmp_path: Path) -> None:
    async with node(tmp_path, 1) as (a, dht_a), node(tmp_path, 2) as (b, dht_b):
        await a.connect(b.addresses()[0])
        await until(lambda: knows(dht_a, 1)() and knows(dht_b, 1)())
        async with node(tmp_path, 3) as (c, dht_c):
            await c.connect(a.addresses()[0])
            await until(lambda: knows(dht_a, 2)() and knows(dht_c, 2)())
            assert (await dht_b.provide(FILE)).stored == 2
        with trio.fail_after(5):
            async with dht_a.find_providers(FILE) as found:
                assert [provider.peer_id async for provider in found] == [b.peer_id]
            assert (await dht_a.provide(FILE)).stored == 1
