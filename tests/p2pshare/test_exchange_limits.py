"""Upload and download limits: the sum of all streams keeps the rate, on a clock that only jumps."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pshare.exchange.limits import RateLimit
from p2pshare.exchange.server import ExchangeServer
from p2pshare.exchange.wire import FrameReader
from p2pshare.fetch import fetch
from p2pshare.store import open_store
from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.cid import CID, RAW
from tests.support_exchange import DictReader, Job, World, node, stream_pair

RATE = 400_000
BLOCK = bytes(200_000)


async def drain(stream: trio.abc.ReceiveStream, size: int) -> None:
    while size > 0:
        size -= len(await stream.receive_some(65536))


async def test_all_uploads_together_keep_the_rate(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    cid = CID.of(RAW, BLOCK).binary
    with open_store(tmp_path) as store:
        async with trio.open_nursery() as nursery:
            reader = DictReader({cid: BLOCK})
            server = ExchangeServer(World(nursery).node("holder"), reader, store, upload_rate=RATE)
            begun = trio.current_time()
            async with trio.open_nursery() as askers:
                for name in ("one", "two", "three", "four"):
                    mine, theirs = stream_pair(name, "holder", x.PROTOCOL)
                    nursery.start_soon(server.serve, theirs)
                    await mine.send_all(x.encode(x.Blocks(1, (cid,) * 20)))
                    askers.start_soon(drain, mine, 20 * len(BLOCK))
            elapsed = trio.current_time() - begun
            nursery.cancel_scope.cancel()
    assert 4 * 20 * len(BLOCK) / elapsed == pytest.approx(RATE, rel=0.05)


async def send_endlessly(stream: trio.abc.SendStream) -> None:
    while True:
        await stream.send_all(bytes(50_000))


@pytest.mark.parametrize("streams", [1, 3])
async def test_all_downloads_together_keep_the_rate(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, streams: int
) -> None:
    limit = RateLimit(RATE)
    begun = trio.current_time()
    async with trio.open_nursery() as takers:
        for _ in range(streams):
            mine, theirs = stream_pair("taker", "holder", x.PROTOCOL)
            nursery.start_soon(send_endlessly, theirs)
            frames = FrameReader(mine, limit)
            takers.start_soon(frames.payload, memoryview(bytearray(4_000_000)), lambda count: None)
    assert streams * 4_000_000 / (trio.current_time() - begun) == pytest.approx(RATE, rel=0.05)
    nursery.cancel_scope.cancel()


async def test_a_fetch_keeps_its_parts_rate(tmp_path: Path, nursery: trio.Nursery) -> None:
    """On the real clock, since a fetch hashes in threads: slower than the limit is the machine, faster is a bug."""
    world = World(nursery)
    async with AsyncExitStack() as stack:
        holder = await stack.enter_async_context(node(world.node("holder"), tmp_path / "holder"))
        taker = await stack.enter_async_context(node(world.node("taker"), tmp_path / "taker"))
        file = tmp_path / "file.bin"
        file.write_bytes(random.Random(7).randbytes(4 << 20))
        link = await holder.share(file)
        parts = taker.parts(download_rate=8e6)
        begun = trio.current_time()
        params = {"link": link, "path": str(tmp_path / "got"), "peer": holder.network.addresses()}
        await fetch(parts, params, Job())
        assert trio.current_time() - begun >= 0.95 * (4 << 20) / 8e6
        assert (tmp_path / "got").read_bytes() == file.read_bytes()


async def test_a_limit_can_be_lifted_while_somebody_waits_for_the_next_bytes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limit = RateLimit(100)
    await limit.take(100)
    begun = trio.current_time()
    limit.set_rate(0)
    await limit.take(1 << 40)
    assert trio.current_time() == begun
    assert limit.grain == 0
