"""Sources that lie, and files that change under a source: nothing wrong is accepted, nothing escapes, nothing hangs."""

from __future__ import annotations

import os
import random
import unicodedata
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from p2pshare.errors import DiskFull, P2PShareError, RemoteError, TimedOut, VerificationFailed
from p2pshare.exchange import structure
from p2pshare.exchange.wire import FrameReader
from p2pshare.fetch import fetch
from p2pshare.net.api import Stream
from p2pshare_protocols import dagpb, unixfs
from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.builder import build_directory
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from tests.support_exchange import Job, Node, World, node

MIB = 1 << 20
Respond = Callable[[Stream, x.Blocks | x.Nodes], Awaitable[None]]


def holder(respond: Respond) -> Callable[[Stream], Awaitable[None]]:
    """Claims to hold everything, and answers requests for blocks as `respond` likes."""

    async def serve(stream: Stream) -> None:
        frames = FrameReader(stream)
        while (message := await frames.header()) is not None:
            if isinstance(message, x.Have):
                await stream.send_all(x.encode(x.Held(message.id, x.Holding.ALL)))
            elif isinstance(message, x.Blocks | x.Nodes):
                await respond(stream, message)

    return serve


async def wrong_length(stream: Stream, request: x.Blocks | x.Nodes) -> None:
    await stream.send_all(x.encode(x.BlocksData(request.id, (5,), True)) + b"short")


async def too_many(stream: Stream, request: x.Blocks | x.Nodes) -> None:
    while True:
        await stream.send_all(x.encode(x.BlocksData(request.id, (MIB,), False)) + bytes(MIB))


async def not_asked(stream: Stream, request: x.Blocks | x.Nodes) -> None:
    await stream.send_all(x.encode(x.BlocksData(request.id + 1000, (1,), True)) + b"x")


async def too_soon(stream: Stream, request: x.Blocks | x.Nodes) -> None:
    await stream.send_all(x.encode(x.BlocksData(request.id, (), True)))


async def huge_header(stream: Stream, request: x.Blocks | x.Nodes) -> None:
    await stream.send_all(b"\xff\xff\xff\xff")


@pytest.mark.parametrize("respond", [wrong_length, too_many, not_asked, too_soon, huge_header])
async def test_what_a_liar_sends_is_not_taken_and_an_honest_source_ends_the_fetch(
    tmp_path: Path, nursery: trio.Nursery, respond: Respond
) -> None:
    world = World(nursery)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        data = random.Random(5).randbytes(5 * MIB)
        (tmp_path / "file").write_bytes(data)
        cid = await one.share(tmp_path / "file")
        evil = world.node("evil")

        async def first_nodes(stream: Stream, request: x.Blocks | x.Nodes) -> None:
            if isinstance(request, x.Nodes):
                await stream.send_all(x.encode(x.NodesData(request.id, (), (), True)))
            else:
                await respond(stream, request)

        evil.handle(x.PROTOCOL, holder(first_nodes))
        peers = [*evil.addresses(), *one.network.addresses()]
        with trio.fail_after(20):
            await two.fetch(cid, tmp_path / "out", peer=peers)
        assert (tmp_path / "out").read_bytes() == data


async def test_endless_nodes_that_nobody_asked_for_do_not_hold_a_fetch_up(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structure, "SILENCE", 0.5)
    monkeypatch.setattr(structure, "AGAIN", 0.2)
    world = World(nursery)

    async def endless(stream: Stream, request: x.Blocks | x.Nodes) -> None:
        for number in range(1 << 30):
            block = dagpb.encode((), b"\x08\x01" + b"\x12\x04" + number.to_bytes(4, "big"))
            frame = x.NodesData(request.id, (CID.of(DAG_PB, block).binary,), (len(block),), False)
            await stream.send_all(x.encode(frame) + block)

    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "a").write_bytes(b"a")
        cid = await one.share(tree)
        world.node("evil").handle(x.PROTOCOL, holder(endless))
        with trio.fail_after(20):
            await two.fetch(cid, tmp_path / "out", peer=["/memory/p2p/evil", *one.network.addresses()])
        assert (tmp_path / "out" / "a").read_bytes() == b"a"


def keep(one: Node, blocks: list[tuple[CID, bytes]]) -> None:
    one.store.blocks.put_many(None, [(cid.binary, block) for cid, block in blocks])


async def test_a_dag_that_unfolds_to_billions_is_refused_in_seconds(tmp_path: Path, nursery: trio.Nursery) -> None:
    world = World(nursery)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        blocks: list[tuple[CID, bytes]] = []
        child = CID.of(RAW, b"x")
        for _ in range(4):
            links = [dagpb.Link(child, f"{n}".encode(), 1) for n in range(500)]
            built, made = build_directory(links)
            blocks += made
            child = built.cid
        keep(one, blocks)
        with trio.fail_after(30), pytest.raises(RemoteError, match="a DAG"):
            await two.fetch(str(child), tmp_path / "out", peer=one.network.addresses())
        assert not list(tmp_path.glob("out*"))


async def test_a_file_that_repeats_one_block_to_a_petabyte_finds_no_room(tmp_path: Path, nursery: trio.Nursery) -> None:
    world = World(nursery)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        leaf = bytes(MIB)
        blocks = [(CID.of(RAW, leaf), leaf)]
        child, size = blocks[0][0], MIB
        for fan in (1000, 1000):
            data = unixfs.encode_data("file", file_size=size * fan, block_sizes=[size] * fan)
            block = dagpb.encode([dagpb.Link(child, b"", size)] * fan, data)
            child, size = CID.of(DAG_PB, block), size * fan
            blocks.append((child, block))
        keep(one, blocks)
        with trio.fail_after(30), pytest.raises(DiskFull, match="needs"):
            await two.fetch(str(child), tmp_path / "out", peer=one.network.addresses())
        assert not list(tmp_path.glob("out*"))


def hostile_names(count: int) -> list[bytes]:
    rng = random.Random(8)
    parts = [
        b"..",
        b"/",
        b"\x00",
        b"\x1b[2J",
        b"\n",
        b"\x7f",
        b"\xff",
        "\u202e".encode(),
        b"a",
        b".",
        b" ",
        b"CON",
        b"\\",
    ]
    fixed = [b"..", b".", b"/etc/passwd", b"../../x", b"a/b", b"\x00", b"-rf", b"x" * 300, b"\xe2\x80\xae"]
    names = dict.fromkeys(fixed)
    while len(names) < count:
        names[b"".join(rng.choices(parts, k=rng.randint(1, 6))) + str(len(names)).encode()] = None
    return list(names)


async def test_hostile_names_lead_nowhere_else_and_carry_no_escapes(tmp_path: Path, nursery: trio.Nursery) -> None:
    world = World(nursery)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        leaf = (CID.of(RAW, b"evil"), b"evil")
        names = hostile_names(8000)
        built, blocks = build_directory([dagpb.Link(leaf[0], name, 4) for name in names])
        keep(one, [leaf, *blocks])
        into = tmp_path / "into"
        into.mkdir()
        before = sorted(path.name for path in tmp_path.iterdir())
        with trio.fail_after(60):
            await two.fetch(str(built.cid), into / "out", peer=one.network.addresses())
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert os.listdir(into) == ["out"]
        made = os.listdir(into / "out")
        assert len(made) == len(names)
        assert all((into / "out" / name).read_bytes() == b"evil" for name in made)
        assert not [name for name in made for letter in name if unicodedata.category(letter) in {"Cc", "Cf"}]


def replaced(path: Path) -> None:
    path.with_name("new").write_bytes(os.urandom(path.stat().st_size))
    os.replace(path.with_name("new"), path)


def truncated(path: Path) -> None:
    os.truncate(path, 5)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def deleted(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("what", [replaced, truncated, grown, deleted])
async def test_a_source_file_that_changes_while_it_is_served(
    tmp_path: Path, nursery: trio.Nursery, what: Callable[[Path], None]
) -> None:
    world = World(nursery)

    class Changing(Job):
        def progress(self, bytes: int, total: int | None = None, **extra: object) -> None:
            super().progress(bytes, total)
            if bytes and file.exists() and bytes < 30 * MIB and not changed:
                changed.append(bytes)
                what(file)

    changed: list[int] = []
    file = tmp_path / "source" / "file"
    file.parent.mkdir()
    file.write_bytes(random.Random(5).randbytes(32 * MIB))
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        cid = await one.share(file)
        with trio.fail_after(30), pytest.raises(P2PShareError) as caught:
            params = {"link": cid, "path": str(tmp_path / "out"), "peer": one.network.addresses(), "timeout": 2.0}
            await fetch(two.parts(download_rate=40e6), params, Changing())
        assert changed
        assert isinstance(caught.value, TimedOut) or caught.value.kind == "changed"
        assert not isinstance(caught.value, VerificationFailed), "the source served what it did not verify"
        assert not (tmp_path / "out").exists()
        assert one.store.items.list()[0].state == ("missing" if what is deleted else "changed")
