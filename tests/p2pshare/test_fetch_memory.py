"""Fetching between nodes joined in memory: real stores, real files, no sockets; liars and the silent are scripted."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pshare.errors import Exists, NoProvider, NotFound, RemoteError, TimedOut, UsageError, VerificationFailed
from p2pshare.exchange.answers import Buffers
from p2pshare.exchange.wire import FrameReader
from p2pshare.fetch import discard
from p2pshare.net.api import Stream
from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.cid import CID
from tests.support_exchange import Job, Node, World, node

MIB = 1 << 20
WithNodes = Callable[..., Awaitable[list[Node]]]


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


async def nodes(stack: AsyncExitStack, world: World, base: Path, *names: str) -> list[Node]:
    return [await stack.enter_async_context(node(world.node(name), base / name)) for name in names]


def peer(*nodes: Node) -> list[str]:
    return [address for one in nodes for address in one.network.addresses()]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def write_tree(base: Path) -> Path:
    root = base / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty-dir").mkdir()
    (root / "big.bin").write_bytes(noise(3 * MIB + 17))
    (root / "empty").write_bytes(b"")
    for n in range(300):
        (root / "deep" / f"{n}.txt").write_bytes(f"file {n}\n".encode() * (n % 50))
    (root / "deep" / "er" / "x.txt").write_bytes(b"x")
    return root


def content(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


async def test_a_tree_is_fetched_whole_and_served_on(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two, three = await nodes(stack, world, tmp_path, "one", "two", "three")
        tree = write_tree(tmp_path)
        cid = await one.share(tree)
        job = Job()
        done = await two.fetch(f"p2pshare:{cid}/tree", tmp_path / "two", peer=peer(one), job=job)
        assert done["path"] == str(tmp_path / "two" / "tree")
        assert content(tmp_path / "two" / "tree") == content(tree)
        size = sum(len(data or b"") for data in content(tree).values())
        assert (done["cid"], done["size"], done["files"], done["sources"]) == (cid, size, 303, 1)
        assert job.seen[-1] == (size, size)
        item = two.store.items.list()[0]
        assert (str(item.cid), item.origin, item.state, item.files) == (cid, "fetched", "ok", 303)
        await trio.testing.wait_all_tasks_blocked()
        assert one.store.items.list()[0].bytes_sent == size
        assert not list((tmp_path / "two").glob("*.part"))
        await three.fetch(cid, tmp_path / "again", peer=peer(two))
        assert content(tmp_path / "again") == content(tree)


@pytest.mark.parametrize("size", [0, 1, 1000, MIB, MIB + 1])
async def test_files_of_any_size(world: World, tmp_path: Path, size: int) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(size))
        cid = await one.share(tmp_path / "file")
        done = await two.fetch(cid, tmp_path / "out", peer=peer(one))
        assert (tmp_path / "out").read_bytes() == noise(size)
        assert done["size"] == size
        assert one.store.items.list()[0].bytes_sent <= size
        copy = await two.fetch(cid, tmp_path / "copy")
        assert (copy["size"], copy["sources"]) == (size, 0)
        assert (tmp_path / "copy").read_bytes() == noise(size)


async def test_a_path_and_a_glob_pick_from_a_directory(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        cid = await one.share(write_tree(tmp_path))
        await two.fetch(f"/ipfs/{cid}/deep/er/x.txt", tmp_path / "x", peer=peer(one))
        assert (tmp_path / "x").read_bytes() == b"x"
        await two.fetch(f"/ipfs/{cid}/deep/er", tmp_path / "er", peer=peer(one))
        assert content(tmp_path / "er") == {"x.txt": b"x"}
        done = await two.fetch(cid, tmp_path / "some", only="deep/29*.txt", peer=peer(one))
        assert sorted(content(tmp_path / "some")) == sorted(
            ["deep", *(f"deep/29{n}.txt" for n in range(10)), "deep/29.txt"]
        )
        assert done["files"] == 11
        with pytest.raises(NotFound):
            await two.fetch(f"/ipfs/{cid}/deep/nothing", tmp_path / "y", peer=peer(one))
        with pytest.raises(NotFound):
            await two.fetch(cid, tmp_path / "y", only="*.nothing", peer=peer(one))


async def test_bad_requests_are_told_before_anything_is_asked(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        [one] = await nodes(stack, world, tmp_path, "one")
        (tmp_path / "there").write_bytes(b"mine")
        cid = await one.share(tmp_path / "there")
        with pytest.raises(UsageError):
            await one.fetch("no link", tmp_path / "x")
        with pytest.raises(UsageError):
            await one.fetch(cid, Path("relative"))
        with pytest.raises(Exists):
            await one.fetch(cid, tmp_path / "there")
        with pytest.raises(NotFound):
            await one.fetch(cid, tmp_path / "no" / "where")


async def test_several_sources_share_the_work(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two, three = await nodes(stack, world, tmp_path, "one", "two", "three")
        (tmp_path / "file").write_bytes(noise(24 * MIB))
        cid = await one.share(tmp_path / "file")
        await two.share(tmp_path / "file")
        done = await three.fetch(cid, tmp_path / "out", peer=peer(one, two))
        assert (tmp_path / "out").read_bytes() == noise(24 * MIB)
        assert done["sources"] == 2


def liar(honest: Node, *, wrong: int = 1) -> Callable[[Stream], Awaitable[None]]:
    """Serves what `honest` has, with one flipped byte in the last of each `wrong` leaves."""
    answerer = honest.server.answerer

    async def serve(stream: Stream) -> None:
        frames = FrameReader(stream)

        async def emit(frame: object) -> None:
            payload = bytearray(b"".join(frame.parts))  # type: ignore[attr-defined]
            if isinstance(frame.answer, x.BlocksData) and payload:  # type: ignore[attr-defined]
                payload[-1] ^= 1
            await stream.send_all(x.encode(frame.answer) + payload)  # type: ignore[attr-defined]

        async def answer() -> None:
            async for message in requests:
                await answerer.answer(message, lambda: True, emit, Buffers())

        ask, requests = trio.open_memory_channel[x.Have | x.Nodes | x.Blocks](256)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            while (message := await frames.header()) is not None:
                if isinstance(message, x.Bad):
                    bad.append(message.cid)
                elif isinstance(message, x.Have | x.Nodes | x.Blocks):
                    ask.send_nowait(message)

    bad: list[bytes] = []
    serve.bad = bad  # type: ignore[attr-defined]
    return serve


async def test_a_wrong_byte_never_reaches_the_disk_and_the_fetch_says_so(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(4 * MIB))
        cid = await one.share(tmp_path / "file")
        serve = liar(one)
        world.node("liar").handle(x.PROTOCOL, serve)
        with pytest.raises(VerificationFailed) as caught:
            await two.fetch(cid, tmp_path / "out", peer=["/memory/p2p/liar"])
        assert caught.value.about.exit_code == 8
        assert "liar" in caught.value.message
        assert len(serve.bad) == 1  # type: ignore[attr-defined]
        assert not (tmp_path / "out").exists()
        part = tmp_path / "out.part"
        assert not part.exists() or not any(part.read_bytes())


async def test_an_honest_source_beside_a_liar_is_enough(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(8 * MIB))
        cid = await one.share(tmp_path / "file")
        world.node("liar").handle(x.PROTOCOL, liar(one))
        done = await two.fetch(cid, tmp_path / "out", peer=["/memory/p2p/liar", *peer(one)])
        assert (tmp_path / "out").read_bytes() == noise(8 * MIB)
        assert done["sources"] == 1


async def test_a_source_that_dies_midway_is_replaced(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two, three = await nodes(stack, world, tmp_path, "one", "two", "three")
        (tmp_path / "file").write_bytes(noise(16 * MIB))
        cid = await one.share(tmp_path / "file")
        await two.share(tmp_path / "file")
        dead = world.node("dying")
        streams: list[Stream] = []

        async def dying(stream: Stream) -> None:
            streams.append(stream)
            await one.server.serve(stream)

        dead.handle(x.PROTOCOL, dying)
        job = Job()
        async with trio.open_nursery() as nursery:

            async def kill() -> None:
                while not any(count > 2 * MIB for count, _ in job.seen):
                    await trio.sleep(0.01)
                del world.nodes["dying"]
                for stream in streams:
                    await stream.reset()

            nursery.start_soon(kill)
            await three.fetch(cid, tmp_path / "out", peer=["/memory/p2p/dying", *peer(two)], job=job)
            nursery.cancel_scope.cancel()
        assert (tmp_path / "out").read_bytes() == noise(16 * MIB)


async def test_a_file_that_changed_at_its_source_is_refused(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(4 * MIB))
        cid = await one.share(tmp_path / "file")
        (tmp_path / "file").write_bytes(noise(4 * MIB, seed=2))
        with pytest.raises(RemoteError) as caught:
            await two.fetch(cid, tmp_path / "out", peer=peer(one))
        assert caught.value.kind == "changed"
        assert not (tmp_path / "out").exists()


async def test_a_fetch_goes_on_from_its_bitmap_and_from_what_it_could_not_record(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(16 * MIB))
        cid = await one.share(tmp_path / "file")
        job = Job()
        with trio.CancelScope() as scope:

            def stop_halfway(count: int, total: int | None = None, **_: object) -> None:
                if count >= 4 * MIB:
                    scope.cancel()

            job.progress = stop_halfway  # type: ignore[method-assign]
            two_parts_progress = job
            one_send = one.network.handlers[x.PROTOCOL]  # type: ignore[attr-defined]

            async def slowly(stream: Stream) -> None:
                await one_send(_Slow(stream))

            one.network.handle(x.PROTOCOL, slowly)
            await two.fetch(cid, tmp_path / "out", peer=peer(one), job=two_parts_progress)
        assert scope.cancelled_caught
        written = (tmp_path / "out.part").read_bytes()
        missing = sum(written[at : at + MIB] != noise(16 * MIB)[at : at + MIB] for at in range(0, 16 * MIB, MIB))
        assert 0 < missing <= 12
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = one.store.items.list()[0].bytes_sent
        again = Job()
        again.blob = job.blob
        one.network.handle(x.PROTOCOL, one_send)
        await two.fetch(cid, tmp_path / "out", peer=peer(one), job=again)
        assert (tmp_path / "out").read_bytes() == noise(16 * MIB)
        assert one.store.items.list()[0].bytes_sent - before <= missing * MIB


async def test_what_a_cancelled_fetch_has_written_can_be_thrown_away(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "file").write_bytes(noise(8 * MIB))
        cid = await one.share(tmp_path / "tree")
        job = Job()
        with trio.CancelScope() as scope:
            job.progress = lambda *_, **__: scope.cancel()  # type: ignore[method-assign]
            await two.fetch(cid, tmp_path / "out", peer=peer(one), job=job)
        assert (tmp_path / "out.part").is_dir()
        number = two.store.jobs.create("fetch", {}, "tree").id
        assert job.blob is not None
        two.store.jobs.save_blob(number, job.blob)
        await discard(two.store, number)
        assert not (tmp_path / "out.part").exists()
        await discard(two.store, number)


class _Slow(Stream):
    """Sends through another stream, a little later each time."""

    def __init__(self, inner: Stream) -> None:
        self._inner = inner
        self.peer_id, self.protocol = inner.peer_id, inner.protocol

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(0.1 if len(data) > 1000 else 0)
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def receive_exactly(self, count: int) -> bytes:
        return await self._inner.receive_exactly(count)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def reset(self) -> None:
        await self._inner.reset()


async def test_a_cid_that_nobody_has_ends_as_not_found_when_there_is_a_limit(
    world: World, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.02  # a worker thread at a disk is no idleness
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        two.network.join("one")  # type: ignore[attr-defined]
        (tmp_path / "file").write_bytes(b"abc")
        other = await node_free_cid(one, tmp_path / "file")
        job = Job()
        with pytest.raises(NoProvider) as caught:
            await two.fetch(other, tmp_path / "out", timeout=30.0, job=job)
        assert caught.value.about.exit_code == 5
        assert any("still looking, retry in" in reason for reason in job.reasons)


async def node_free_cid(one: Node, path: Path) -> str:
    cid = await one.share(path)
    one.store.items.remove(one.store.items.list()[0].id)
    return cid


async def test_a_connected_peer_is_asked_though_nobody_named_it(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(MIB * 2))
        cid = await one.share(tmp_path / "file")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: two.fetch(cid, tmp_path / "out"))
            await trio.testing.wait_all_tasks_blocked(0.05)
            two.network.join("one")  # type: ignore[attr-defined]
        assert (tmp_path / "out").read_bytes() == noise(MIB * 2)


async def test_a_silent_source_ends_in_a_timeout_and_says_what_it_waits_for(
    world: World, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.02  # a worker thread at a disk is no idleness
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(MIB * 4))
        cid = await one.share(tmp_path / "file")

        async def silent(stream: Stream) -> None:
            frames = FrameReader(stream)

            async def emit(frame: object) -> None:
                await stream.send_all(b"".join((x.encode(frame.answer), *frame.parts)))  # type: ignore[attr-defined]

            while (message := await frames.header()) is not None:
                if isinstance(message, x.Have | x.Nodes):
                    await one.server.answerer.answer(message, lambda: True, emit, Buffers())

        world.node("silent").handle(x.PROTOCOL, silent)
        job = Job()
        with pytest.raises(TimedOut), trio.fail_after(100_000):
            await two.fetch(cid, tmp_path / "out", peer=["/memory/p2p/silent"], timeout=60.0, job=job)
        assert any("still looking, retry in" in reason for reason in job.reasons)


async def test_a_running_fetch_passes_on_what_it_has(world: World, tmp_path: Path) -> None:
    """`two` fetches from a slow seeder; `three` knows only `two`, and ends although `two` did not have all at first."""
    async with AsyncExitStack() as stack:
        one, two, three = await nodes(stack, world, tmp_path, "one", "two", "three")
        (tmp_path / "file").write_bytes(noise(12 * MIB))
        cid = await one.share(tmp_path / "file")
        serve = one.server.serve

        async def slowly(stream: Stream) -> None:
            await serve(_Slow(stream))

        one.network.handle(x.PROTOCOL, slowly)
        held: list[x.Holding] = []
        begun = trio.Event()

        def watch(count: int, total: int | None = None, **_: object) -> None:
            if count:
                begun.set()

        first, second = Job(), Job()
        first.progress = watch  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: two.fetch(cid, tmp_path / "second", peer=peer(one), job=first))
            await begun.wait()
            partial = two.server.partials.of(CID.parse(cid).binary)
            assert partial is not None
            held.append(two.server.answerer.holding(x.Have(1, CID.parse(cid).binary)).answer.holding)  # type: ignore[union-attr]
            await three.fetch(cid, tmp_path / "third", peer=peer(two), job=second)
        assert held == [x.Holding.PART]
        assert (tmp_path / "third").read_bytes() == noise(12 * MIB)
