"""Nodes of the DHT find each other, keep records and tell them; strangers' faults stay theirs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pshare.dht import DHT, Receipt, open_dht
from p2pshare.dht.engine import OURS
from p2pshare.dht.records import LIFE, REPUBLISH
from p2pshare.net.api import Stream
from p2pshare.store import Store, open_store
from p2pshare.store.providers import Bounds
from p2pshare_protocols import kad_messages, peerid, varint
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.kad_messages import Kind, Message, Peer
from tests.support_dht import Board, FakeNetwork

FILE = CID.of(RAW, b"a file")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """Nodes with their DHT and store. Leaving it closes everything."""

    def __init__(self, directory: Path, nursery: trio.Nursery, stores: ExitStack) -> None:
        self.board = Board(nursery)
        self.clock = Clock()
        self._directory = directory
        self._nursery = nursery
        self._stores = stores

    def store(self, net: FakeNetwork) -> Store:
        directory = self._directory / net.peer_id
        directory.mkdir()
        return self._stores.enter_context(open_store(directory))

    async def node(self, *, listens: bool = True, **options: Any) -> tuple[FakeNetwork, DHT, Store]:
        net = self.board.node(listens=listens)
        store = self.store(net)
        options = {"allow_private": True, "rng": random.Random(1), "wall_clock": self.clock} | options
        return net, await self._nursery.start(self._serve, net, store, options), store

    async def _serve(self, net: FakeNetwork, store: Store, options: Any, task_status: Any) -> None:
        async with open_dht(net, store, **options) as dht:
            task_status.started(dht)
            await trio.sleep_forever()

    async def nodes(self, count: int) -> list[tuple[FakeNetwork, DHT, Store]]:
        """`count` servers, each of which dialled the first."""
        nodes = [await self.node() for _ in range(count)]
        for net, _, _ in nodes[1:]:
            await net.connect(nodes[0][0].addresses()[0])
        await settle()
        return nodes

    def liar(self, answer: Any) -> FakeNetwork:
        """A server that says `answer(message)` (bytes, already framed) to every question."""
        net = self.board.node()

        async def handle(stream: Stream) -> None:
            try:
                while size := (await stream.receive_exactly(1))[0]:
                    if size & 128:
                        size = size & 127 | (await stream.receive_exactly(1))[0] << 7
                    said = answer(kad_messages.decode(await stream.receive_exactly(size)))
                    if said is None:
                        await trio.sleep_forever()
                    await stream.send_all(said)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.reset()

        net.handle(OURS, handle)
        return net


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with ExitStack() as stores:
        async with trio.open_nursery() as nursery:
            yield World(tmp_path, nursery, stores)
            nursery.cancel_scope.cancel()


async def settle(seconds: float = 8.0) -> None:
    await trio.sleep(seconds)  # virtual


async def providers(dht: DHT, cid: CID = FILE) -> dict[str, tuple[str, ...]]:
    async with dht.find_providers(cid) as found:
        return {provider.peer_id: provider.addresses async for provider in found}


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


def strangers(count: int) -> Iterator[Peer]:
    rng = random.Random(9)
    for number in range(count):
        peer_id = peerid.peer_id_from_ed25519(rng.randbytes(32))
        yield Peer(peer_id, (f"/ip4/10.9.{number % 250}.{number // 250 + 1}/tcp/1",))


MADE_UP = tuple(strangers(2000))
HOSTILE: dict[str, Any] = {
    "silent": lambda m: None,
    "garbage": lambda m: b"\x10" + b"\xff" * 16,
    "oversize": lambda m: b"\xff\xff\xff\xff\x7f" + bytes(1000),
    "wrong kind": lambda m: kad_messages.frame(Message(Kind.PUT_VALUE, key=b"x")),
    "two thousand peers": lambda m: kad_messages.frame(Message(m.kind, key=m.key, closer=MADE_UP)),
    "two answers": lambda m: kad_messages.frame(Message(m.kind, key=m.key)) * 2,
    "empty": lambda m: b"\x00",
}


@pytest.mark.parametrize("fault", HOSTILE)
async def test_hostile_servers_do_not_hinder_the_others(world: World, autojump_clock: MockClock, fault: str) -> None:
    nodes = await world.nodes(4)
    for _ in range(3):
        liar = world.liar(HOSTILE[fault])
        for net, _, _ in nodes:
            await net.connect(liar.addresses()[0])
    await settle()
    before = trio.current_time()
    receipt = await nodes[1][1].provide(FILE)
    assert receipt.stored == 3
    assert set(await providers(nodes[2][1])) == {nodes[1][0].peer_id}
    assert trio.current_time() - before < 45.0
    await settle(60.0)
    assert int(str(nodes[1][1].status()["nodes"])) <= 6  # three honest, three that answered something


async def call(asker: FakeNetwork, server: FakeNetwork, *frames: bytes) -> bytes | None:
    """What comes back for raw bytes, None for a reset."""
    await asker.connect(server.addresses()[0])
    stream = await asker.open_stream(server.peer_id, [OURS])
    try:
        for frame in frames:
            await stream.send_all(frame)
        await stream.send_eof()
        out = b""
        while data := await stream.receive_some(1000):
            out += data
        return out
    except trio.BrokenResourceError:
        return None


async def test_a_stranger_may_speak_for_itself_only(world: World, autojump_clock: MockClock) -> None:
    server, _, store = await world.node()
    stranger = world.board.node()
    own = Peer(stranger.peer_id, (stranger.address,))
    other = Peer(MADE_UP[0].peer_id, ("/ip4/10.1.1.1/tcp/1",))
    forged = Message(Kind.ADD_PROVIDER, key=FILE.multihash, providers=(other,))
    assert await call(stranger, server, kad_messages.frame(forged)) == b""
    assert store.providers.count() == 0
    true = Message(Kind.ADD_PROVIDER, key=FILE.multihash, providers=(other, own))
    assert await call(stranger, server, kad_messages.frame(true)) == b""
    assert [peer for peer, _, _ in store.providers.get(FILE.multihash, 0.0)] == [stranger.peer_id]
    bad_key = Message(Kind.ADD_PROVIDER, key=b"no multihash", providers=(own,))
    assert await call(stranger, server, kad_messages.frame(bad_key)) is None


async def test_an_error_in_the_middle_of_a_search_stays_what_it_is(world: World, autojump_clock: MockClock) -> None:
    nodes = await world.nodes(2)
    with pytest.raises(ZeroDivisionError):
        async with nodes[0][1].find_providers(FILE):
            raise ZeroDivisionError


BAD_FRAMES: Sequence[bytes] = (
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff",
    b"\x05hello",
    b"\x02\x08\x09",
    b"\x02\x08\x00",
    b"\x02\x08\x04",
    b"\x7f" + b"x" * 10,
)


@pytest.mark.parametrize("frame", BAD_FRAMES)
async def test_bad_questions_reset_their_stream_only(world: World, autojump_clock: MockClock, frame: bytes) -> None:
    server, _, _ = await world.node()
    stranger = world.board.node()
    assert await call(stranger, server, frame) is None
    assert await call(stranger, server, b"\x02\x08\x05", b"\x02\x08\x05") == b"\x02\x08\x05" * 2


async def test_a_flood_of_questions_is_answered_at_a_walking_pace(world: World, autojump_clock: MockClock) -> None:
    server, _, _ = await world.node()
    before = trio.current_time()
    assert await call(world.board.node(), server, b"\x02\x08\x05" * 450) == b"\x02\x08\x05" * 450
    assert 3.9 < trio.current_time() - before < 5


async def test_two_streams_a_peer_and_idle_ones_end(world: World, autojump_clock: MockClock) -> None:
    server, _, _ = await world.node()
    stranger = world.board.node()
    await stranger.connect(server.addresses()[0])
    kept = [await stranger.open_stream(server.peer_id, [OURS]) for _ in range(2)]
    await settle(0.1)
    third = await stranger.open_stream(server.peer_id, [OURS])
    with pytest.raises(trio.BrokenResourceError):
        await third.receive_some(1)
    before = trio.current_time()
    assert await kept[0].receive_some(1) == b""
    assert 55 < trio.current_time() - before < 65
    await settle(1)
    again = await stranger.open_stream(server.peer_id, [OURS])
    await again.send_all(b"\x02\x08\x05")
    assert await again.receive_exactly(3) == b"\x02\x08\x05"


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


def claim(net: FakeNetwork, cid: CID) -> bytes:
    own = Peer(net.peer_id, (net.address,))
    return kad_messages.frame(Message(Kind.ADD_PROVIDER, key=cid.multihash, providers=(own,)))


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
