"""Peer exchange, upload slots and bans between real holders and askers joined in memory, on a clock that only jumps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pshare.exchange.bans import ADDRESS, IDENTITY, Bans
from p2pshare.exchange.others import EVERY, FRESH, MAX_ASKERS, Askers, checked
from p2pshare.exchange.server import ExchangeServer, Limits
from p2pshare.exchange.source import WrongBlock
from p2pshare.exchange.swarm import Swarm
from p2pshare.exchange.wire import FrameReader
from p2pshare.net.api import PeerInfo, Stream
from p2pshare.store import open_store
from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols import multiaddr, peerid
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.upload_slots import TURN
from tests.support_exchange import DictReader, MemoryNetwork, World, stream_pair

ROOT = b"\x01\x55\x12\x20" + bytes(32)
BLOCK = bytes(1000)
CID_OF_BLOCK = CID.of(RAW, BLOCK).binary
PUBLIC, PRIVATE = "/ip4/198.41.0.{}/tcp/4001", "/ip4/10.0.0.{}/tcp/4001"


def name(number: int) -> str:
    return peerid.peer_id_from_ed25519(number.to_bytes(32, "big"))


class _Placed(MemoryNetwork):
    """Peers have addresses: `at` on the other end of their connection, `listening` by identify."""

    def __init__(self, world: World, peer_id: str) -> None:
        super().__init__(world, peer_id)
        self.at: dict[str, str] = {}
        self.listening: dict[str, list[str]] = {}
        self.learned: dict[str, list[str]] = {}

    def peers(self) -> list[PeerInfo]:
        return [
            PeerInfo(peer, self.at.get(peer, "/memory"), "in", 0.0) for peer in sorted(self.connected | set(self.at))
        ]

    def addresses_of(self, peer_id: str) -> list[str]:
        return self.listening.get(peer_id, [])

    def add_addresses(self, peer_id: str, addresses: Sequence[str], *, ttl: float = 3600.0) -> None:
        self.learned[peer_id] = list(addresses)


@pytest.fixture
def placed(nursery: trio.Nursery) -> _Placed:
    return _Placed(World(nursery), name(0))


async def test_others_are_told_with_addresses_that_the_asker_can_use(placed: _Placed) -> None:
    placed.at = {name(1): PUBLIC.format(1), name(2): PRIVATE.format(2)}
    both = [PRIVATE.format(3), PUBLIC.format(3), "/ip4/0.0.0.0/tcp/1", "/ip4/198.41.0.3/udp/1/quic-v1"]
    placed.listening = {name(3): both, name(4): [PRIVATE.format(4)]}
    askers = Askers(placed)
    for number in range(1, 6):
        askers.note(ROOT, name(number), 0.0)
    told = {number: dict(checked(askers.others(ROOT, name(number), 1.0), private=True)) for number in (1, 2)}
    assert told[1] == {name(3): [PUBLIC.format(3)]}
    assert told[2] == {name(3): [PRIVATE.format(3), PUBLIC.format(3)], name(4): [PRIVATE.format(4)]}
    assert askers.others(ROOT, name(1), FRESH + 1) == ()
    assert askers.others(ROOT[:-1] + b"x", name(1), 1.0) == ()


async def test_what_is_told_and_remembered_is_bounded(placed: _Placed) -> None:
    placed.listening = {name(number): [PUBLIC.format(number % 250)] * 9 for number in range(1, 300)}
    askers = Askers(placed)
    for number in range(1, 300):
        askers.note(ROOT, name(number), 0.0)
    assert len(askers._roots[ROOT]) == MAX_ASKERS
    told = askers.others(ROOT, name(1), 0.0)
    assert len(told) == x.MAX_OTHERS
    assert all(len(other.addresses) == x.MAX_OTHERS_ADDRESSES for other in told)


def test_what_others_tell_is_checked() -> None:
    def other(number: int, *addresses: str) -> x.Other:
        return x.Other(peerid.peer_id_to_bytes(name(number)), tuple(map(multiaddr.to_binary, addresses)))

    lies = [
        x.Other(b"no peer", (multiaddr.to_binary(PUBLIC.format(1)),)),
        x.Other(peerid.peer_id_to_bytes(name(1)), (b"\xff\xff",)),
        other(2, PUBLIC.format(2) + f"/p2p/{name(3)}"),
        other(4, "/ip4/224.0.0.1/tcp/4001", "/ip4/198.41.0.4/tcp/0"),
        other(5, PRIVATE.format(5)),
        other(6, PUBLIC.format(6)),
    ]
    assert dict(checked(lies, private=False)) == {name(6): [PUBLIC.format(6)]}


async def test_fetchers_of_the_same_hear_of_each_other_once_in_a_while(
    tmp_path: Path, placed: _Placed, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    placed.at = {name(number): PUBLIC.format(number) for number in (1, 2)}
    placed.listening = {name(number): [PUBLIC.format(number)] for number in (1, 2)}
    with open_store(tmp_path) as store:
        server = ExchangeServer(placed, DictReader({}), store)
        first = await _asker(nursery, server, placed, 1)
        second = await _asker(nursery, server, placed, 2)
        assert (await first.ask(x.Have(1, ROOT, fetching=True))).others == ()
        assert (await second.ask(x.Have(1, ROOT))).others == ()  # one that only looks is neither told nor named
        told = (await second.ask(x.Have(2, ROOT, fetching=True))).others
        assert dict(checked(told, private=False)) == {name(1): [PUBLIC.format(1)]}
        assert (await second.ask(x.Have(3, ROOT, fetching=True))).others == ()
        await trio.sleep(EVERY)
        assert len((await second.ask(x.Have(4, ROOT, fetching=True))).others) == 1
        assert len((await first.ask(x.Have(2, ROOT, fetching=True))).others) == 1
        nursery.cancel_scope.cancel()


class _Asker:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.frames = FrameReader(stream)

    async def ask(self, request: x.Have) -> x.Held:
        await self.stream.send_all(x.encode(request))
        while not isinstance(answer := await self.frames.header(), x.Held):
            assert isinstance(answer, x.BlocksData)
            await self.frames.payload(memoryview(bytearray(answer.payload)), lambda count: None)
        return answer

    async def blocks(self, id: int) -> None:
        await self.stream.send_all(x.encode(x.Blocks(id, (CID_OF_BLOCK,))))

    async def answered(self, id: int) -> None:
        answer = await self.frames.header()
        assert answer == x.BlocksData(id, (len(BLOCK),), end=True)
        await self.frames.payload(memoryview(bytearray(len(BLOCK))), lambda count: None)


async def _asker(nursery: trio.Nursery, server: ExchangeServer, network: MemoryNetwork, number: int) -> _Asker:
    mine, theirs = stream_pair(name(number), network.peer_id, x.PROTOCOL)
    nursery.start_soon(server.serve, theirs)
    return _Asker(mine)


async def test_who_waits_for_a_slot_is_told_its_place_and_gets_its_turn(
    tmp_path: Path, placed: _Placed, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    with open_store(tmp_path) as store:
        server = ExchangeServer(placed, DictReader({CID_OF_BLOCK: BLOCK}), store, limits=Limits(slots=1))
        for busy in ("busy", "busier"):  # they never end
            assert server.slots.want(busy, trio.current_time())
        askers = [await _asker(nursery, server, placed, number) for number in (1, 2)]
        for asker in askers:
            await asker.blocks(1)
            await trio.testing.wait_all_tasks_blocked()
        places = [(await asker.ask(x.Have(2, ROOT, fetching=True))).queue for asker in askers]
        assert places == [1, 2]
        begun = trio.current_time()
        for asker in askers:
            await asker.answered(1)
            assert (await asker.ask(x.Have(3, ROOT, fetching=True))).queue == 0
        assert TURN - 1 <= trio.current_time() - begun <= TURN + 1
        nursery.cancel_scope.cancel()


def _liar(number: int) -> WrongBlock:
    return WrongBlock(name(number), CID_OF_BLOCK)


async def test_a_liar_is_no_source_of_any_fetch_for_a_day_and_nobody_at_its_address_for_a_while(
    placed: _Placed, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    placed.at = {name(number): PUBLIC.format(1 if number < 4 else 2) for number in range(1, 6)}
    for number in range(1, 6):
        placed.world.node(name(number)).handle(x.PROTOCOL, _holds_all)
    placed.world.nodes[name(0)] = placed
    bans = Bans()
    swarm = Swarm(placed, ROOT, bans=bans)
    nursery.start_soon(swarm.run)
    swarm.offer(name(1))
    swarm.offer(name(2))
    await trio.sleep(0.1)
    swarm.proved(name(2))
    swarm.ban(_liar(1))
    await trio.sleep(0.2)
    assert swarm.banned[name(1)].block == str(CID.from_binary(CID_OF_BLOCK))
    for number in (1, 3, 4):
        swarm.offer(name(number))
    await trio.sleep(0.5)
    assert set(swarm.sources) == {name(2), name(4)}  # 3 is new at the liar's address, 2 has proved itself there
    other = Swarm(placed, ROOT, bans=bans)
    nursery.start_soon(other.run)
    other.offer(name(1))
    other.offer(name(3))
    await trio.sleep(1)
    assert not other.sources
    await trio.sleep(ADDRESS)
    assert set(other.sources) == {name(3)}
    await trio.sleep(IDENTITY)
    other.offer(name(1))
    await trio.sleep(1)
    assert set(other.sources) == {name(1), name(3)}
    nursery.cancel_scope.cancel()


async def _holds_all(stream: Stream) -> None:
    frames = FrameReader(stream)
    while (message := await frames.header()) is not None:
        if isinstance(message, x.Have):
            await stream.send_all(x.encode(x.Held(message.id, x.Holding.ALL)))


def test_one_address_is_an_ip4_address_or_an_ip6_64_and_never_loopback() -> None:
    bans = Bans()
    for address in ("/ip6/2001:db8:1:2:3::4/tcp/1", "/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", None, "/memory"):
        bans.ban(name(1), address, 0.0)
    assert bans.address("/ip6/2001:db8:1:2::9/tcp/7", 1.0)
    assert not bans.address("/ip6/2001:db8:1:3::9/tcp/7", 1.0)
    assert not bans.address("/ip4/127.0.0.1/tcp/9", 1.0)
    assert bans.address("/ip4/10.0.0.1/tcp/9", 1.0)
    assert not bans.address("/ip4/10.0.0.1/tcp/9", ADDRESS)
