"""Where a fetch's sources come from while it runs, what it says meanwhile, and what it tells others."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from p2pshare.dht.api import Provider, Receipt
from p2pshare.exchange.answers import Buffers
from p2pshare.exchange.fetcher import ANNOUNCE_AFTER
from p2pshare.exchange.wire import FrameReader
from p2pshare.fetch import fetch
from p2pshare.net.api import Stream
from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.cid import CID
from tests.support_exchange import Job, Node, World, node

MIB = 1 << 20


@pytest.fixture
async def world(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> World:
    autojump_clock.autojump_threshold = 0.02  # a worker thread at a disk is no idleness
    return World(nursery)


async def nodes(stack: AsyncExitStack, world: World, base: Path, *names: str) -> list[Node]:
    return [await stack.enter_async_context(node(world.node(name), base / name)) for name in names]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def serving(
    holder: Node, *, each: float = 0.0, wrong: bool = False, queue: int = 0
) -> Callable[[Stream], Awaitable[None]]:
    """Answers as `holder` does: a block every `each` seconds, all of them wrong, or all behind a queue."""

    async def serve(stream: Stream) -> None:
        async def emit(frame: Any) -> None:
            payload = bytearray(b"".join(frame.parts))
            answer = frame.answer
            if isinstance(answer, x.BlocksData):
                await trio.sleep(each)
                payload[0] ^= wrong
            if isinstance(answer, x.Held) and queue:
                answer = x.Held(answer.id, answer.holding, answer.leaves, answer.size, queue)
            await stream.send_all(x.encode(answer) + payload)

        frames = FrameReader(stream)
        while (message := await frames.header()) is not None:
            if isinstance(message, x.Blocks) and queue:
                continue
            if isinstance(message, x.Have | x.Nodes | x.Blocks):
                await holder.server.answerer.answer(message, lambda: True, emit, Buffers())

    return serve


async def until(what: Callable[[], bool]) -> None:
    with trio.fail_after(500):
        while not what():
            await trio.sleep(0.25)


async def test_a_fetch_without_a_source_says_so_and_starts_by_itself_when_one_appears(
    world: World, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(3 * MIB))
        cid = await one.share(tmp_path / "file")
        job = Job()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: two.fetch(cid, tmp_path / "out", job=job))
            await until(lambda: any("no source answered; still looking, retry in" in text for text in job.reasons))
            await trio.sleep(10)
            two.network.join("one")  # type: ignore[attr-defined]
        assert (tmp_path / "out").read_bytes() == noise(3 * MIB)


async def test_a_source_that_appears_in_mid_fetch_joins_it(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        one, two, three = await nodes(stack, world, tmp_path, "one", "two", "three")
        (tmp_path / "file").write_bytes(noise(24 * MIB))
        cid = await one.share(tmp_path / "file")
        await three.share(tmp_path / "file")
        world.node("slow").handle(x.PROTOCOL, serving(one, each=1.0))
        job = Job()
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: two.fetch(cid, tmp_path / "out", peer=["/memory/p2p/slow"], job=job))
            await until(lambda: bool(job.seen) and job.seen[-1][0] > 0)
            two.network.join("three")  # type: ignore[attr-defined]
        assert trio.current_time() - begun < 12, "the slow one's pieces were not taken over by the fast one"
        assert (tmp_path / "out").read_bytes() == noise(24 * MIB)


async def test_a_fetch_that_waits_in_a_queue_says_its_place_and_goes_on_with_another_source(
    world: World, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        one, two, three = await nodes(stack, world, tmp_path, "one", "two", "three")
        (tmp_path / "file").write_bytes(noise(4 * MIB))
        cid = await one.share(tmp_path / "file")
        await three.share(tmp_path / "file")
        world.node("full").handle(x.PROTOCOL, serving(one, queue=3))
        job = Job()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: two.fetch(cid, tmp_path / "out", peer=["/memory/p2p/full"], job=job))
            await until(lambda: "1 source, choked: queue place 3" in job.reasons)
            await trio.sleep(15)
            assert two.network.opened == ["full"]  # type: ignore[attr-defined]  # it is neither replaced nor given up
            two.network.join("three")  # type: ignore[attr-defined]
        assert (tmp_path / "out").read_bytes() == noise(4 * MIB)


async def test_a_liar_and_its_block_are_named_while_the_fetch_runs_and_in_its_result(
    world: World, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(8 * MIB))
        cid = await one.share(tmp_path / "file")
        world.node("liar").handle(x.PROTOCOL, serving(one, wrong=True))
        world.node("slow").handle(x.PROTOCOL, serving(one, each=1.0))
        job = Job()
        parts = two.parts()
        params = {"link": cid, "path": str(tmp_path / "out"), "peer": ["/memory/p2p/liar", "/memory/p2p/slow"]}
        done = await fetch(parts, params, job)
        assert (tmp_path / "out").read_bytes() == noise(8 * MIB)
        [banned] = done["banned"]
        assert banned["source"] == "liar"
        wrong = CID.parse(banned["block"])
        assert any(wrong.matches(noise(8 * MIB)[at : at + MIB]) for at in range(0, 8 * MIB, MIB))
        assert any("liar" in reason and banned["block"] in reason for reason in job.reasons)
        assert parts.bans.peer("liar", trio.current_time()) > 0


class _DHT:
    """Knows nobody, and notes what is announced."""

    def __init__(self) -> None:
        self.provided: list[CID] = []

    async def provide(self, cid: CID) -> Receipt:
        self.provided.append(cid)
        return Receipt(1, 1)

    @asynccontextmanager
    async def find_providers(self, cid: CID) -> AsyncIterator[AsyncIterator[Provider]]:
        async def nobody() -> AsyncIterator[Provider]:
            return
            yield

        yield nobody()


@pytest.mark.parametrize(("each", "announced"), [(1.0, True), (0.1, False)])
async def test_a_long_fetch_announces_what_it_has(world: World, tmp_path: Path, each: float, announced: bool) -> None:
    async with AsyncExitStack() as stack:
        one, two = await nodes(stack, world, tmp_path, "one", "two")
        (tmp_path / "file").write_bytes(noise(12 * MIB))
        cid = await one.share(tmp_path / "file")
        world.node("slow").handle(x.PROTOCOL, serving(one, each=each))
        dht = _DHT()
        params = {"link": cid, "path": str(tmp_path / "out"), "peer": ["/memory/p2p/slow"]}
        begun = trio.current_time()
        await fetch(two.parts(dht=dht), params, Job())
        assert (trio.current_time() - begun > ANNOUNCE_AFTER) == announced
        assert dht.provided == [CID.parse(cid)] * announced
