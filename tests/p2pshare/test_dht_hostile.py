"""Strangers' faults stay theirs: false answers, false questions, too many of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pshare.dht.engine import OURS
from p2pshare.dht.wrong import MOST, REMEMBERED, Wrong
from p2pshare_protocols import kad_messages, varint
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.kad_messages import Kind, Message, Peer
from tests.support_dht_world import FILE, World, call, open_world, providers, settle, strangers

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
BAD_FRAMES: Sequence[bytes] = (
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff",
    b"\x05hello",
    b"\x02\x08\x09",
    b"\x02\x08\x00",
    b"\x02\x08\x04",
    b"\x7f" + b"x" * 10,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


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


def right(message: Message, **more: Any) -> bytes:
    return kad_messages.frame(Message(message.kind, key=message.key, **more))


WRONG: dict[str, Callable[[Message, str], bytes]] = {
    "another kind": lambda m, asker: kad_messages.frame(Message(Kind.FIND_NODE, key=m.key)),
    "another key": lambda m, asker: kad_messages.frame(Message(m.kind, key=CID.of(RAW, b"another").multihash)),
    "names the asker": lambda m, asker: right(m, closer=(Peer(asker, ("/ip4/10.0.1.1/tcp/4001",)),)),
    "ten megabytes": lambda m, asker: varint.encode(10 << 20) + bytes(10 << 20),
    "no message": lambda m, asker: b"\x05hello",
    "two answers": lambda m, asker: right(m) * 2,
}


@pytest.mark.parametrize("fault", WRONG)
async def test_who_answers_against_the_rules_is_not_asked_again(
    world: World, autojump_clock: MockClock, fault: str
) -> None:
    nodes = await world.nodes(3)
    seeker, dht, _ = nodes[2]
    await nodes[1][1].provide(FILE)
    asked: list[Message] = []

    def answer(message: Message) -> bytes:
        asked.append(message)
        return right(message) if message.kind is Kind.FIND_NODE else WRONG[fault](message, seeker.peer_id)

    liar = world.liar(answer)
    await seeker.connect(liar.addresses()[0])
    await settle()
    assert dht.status()["nodes"] == 3
    assert set(await providers(dht)) == {nodes[1][0].peer_id}
    await settle(0.1)
    assert dht.status()["nodes"] == 2
    before = len(asked)
    for number in range(5):
        assert await providers(dht, CID.of(RAW, b"%d" % number)) == {}
    await seeker.disconnect(liar.peer_id)
    await seeker.connect(liar.addresses()[0])
    assert (await dht.provide(FILE)).stored == 2
    await settle(0.1)
    assert len(asked) == before
    await settle(REMEMBERED)
    await seeker.disconnect(liar.peer_id)
    await seeker.connect(liar.addresses()[0])
    await settle(0.1)
    assert len(asked) > before  # it may have been mended


async def test_who_asks_against_the_rules_leaves_the_table(world: World, autojump_clock: MockClock) -> None:
    server, dht, _ = await world.node()
    liar = world.liar(right)
    await server.connect(liar.addresses()[0])
    await settle()
    assert dht.status()["nodes"] == 1
    assert await call(liar, server, b"\x02\x08\x09") is None
    assert dht.status()["nodes"] == 0


async def test_those_that_are_remembered_as_wrong_are_bounded(autojump_clock: MockClock) -> None:
    wrong = Wrong()
    for number in range(3 * MOST):
        wrong.add(str(number))
    assert len(wrong) == MOST
    assert str(3 * MOST - 1) in wrong
    assert "0" not in wrong
    await trio.sleep(REMEMBERED + 1)
    assert str(3 * MOST - 1) not in wrong


async def test_what_came_before_a_bad_question_is_kept(world: World, autojump_clock: MockClock) -> None:
    server, _, store = await world.node()
    stranger = world.board.node()
    own = Peer(stranger.peer_id, (stranger.address,))
    claims = [Message(Kind.ADD_PROVIDER, key=CID.of(RAW, b"%d" % n).multihash, providers=(own,)) for n in range(20)]
    frames = b"".join(map(kad_messages.frame, claims))
    assert await call(stranger, server, frames + b"\x02\x08\x09" + frames) is None
    assert store.providers.count() == 20


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
