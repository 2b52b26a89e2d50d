"""Upload and download limits: the sum of all streams keeps the rate, on a clock that only jumps."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pshare.exchange.limits import RateLimit, keep_schedule
from p2pshare.exchange.server import ExchangeServer
from p2pshare.exchange.wire import FrameReader
from p2pshare.fetch import fetch
from p2pshare.store import open_store
from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.config_schema import parse_size
from p2pshare_protocols.limit_schedule import parse
from tests.support_exchange import DictReader, Job, World, node, stream_pair
from tests.support_net import network

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


async def test_a_higher_priority_passes_first_and_the_sum_keeps_the_rate(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limit = RateLimit(RATE)
    ended: dict[str, float] = {}

    async def move(name: str, priority: int) -> None:
        for _ in range(100):
            await limit.of(priority).take(limit.grain)
        ended[name] = trio.current_time()

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name, priority in (("low", -1), ("usual", 0), ("too", 0), ("high", 5)):
            nursery.start_soon(move, name, priority)
    one = 100 * limit.grain / RATE
    assert ended["high"] - begun == pytest.approx(one, rel=0.05)
    assert ended["usual"] == pytest.approx(ended["too"], abs=0.2)
    assert ended["usual"] - begun == pytest.approx(3 * one, rel=0.05)
    assert ended["low"] - begun == pytest.approx(4 * one, rel=0.05)


async def test_one_that_is_cancelled_while_it_waits_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limit.take, 100)
        with trio.move_on_after(0.5):
            async with trio.open_nursery() as inner:
                for _ in range(3):
                    inner.start_soon(limit.take, 100)
        begun = trio.current_time()
        await limit.take(1)
        assert trio.current_time() - begun <= 2.0


async def test_a_schedule_sets_both_limits_and_gives_them_back(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    upload, download = RateLimit(1000), RateLimit(0)
    rules = [parse("22:00-07:00 upload=0 download=5MB", parse_size)]
    start = 21 * 60 + 59

    def local_time() -> tuple[int, int]:
        return 0, (start + int(trio.current_time() // 60)) % 1440

    nursery.start_soon(keep_schedule, rules, upload, download, local_time)
    seen = []
    for _ in range(3):
        await trio.sleep(29)
        seen.append((upload.rate, download.rate))
    assert seen == [(1000, 0), (1000, 0), (0, 5_000_000)]
    await trio.sleep(9 * 3600)
    assert (upload.rate, download.rate) == (1000, 0)
    nursery.cancel_scope.cancel()


async def test_an_upload_limit_over_real_sockets_is_kept_to_5_percent(tmp_path: Path) -> None:
    """On the real clock; what the fetch says before its first block is taken off by measuring from its progress."""
    rate, size = 8_000_000, 24 << 20
    async with AsyncExitStack() as stack:
        far = await stack.enter_async_context(network(1))
        near = await stack.enter_async_context(network(2))
        holder = await stack.enter_async_context(node(far, tmp_path / "holder"))
        taker = await stack.enter_async_context(node(near, tmp_path / "taker"))
        holder.server.upload.set_rate(rate)
        file = tmp_path / "file.bin"
        file.write_bytes(random.Random(8).randbytes(size))
        link = await holder.share(file)
        job = _Timed()
        await taker.fetch(link, tmp_path / "got", peer=holder.network.addresses(), job=job)
    (begun, before), (ended, after) = job.times[0], job.times[-1]
    assert (after - before) / (ended - begun) == pytest.approx(rate, rel=0.05)


class _Timed(Job):
    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, int]] = []

    def progress(self, bytes: int, total: int | None = None, **extra: object) -> None:
        if bytes and (not self.times or bytes > self.times[-1][1]):
            self.times.append((trio.current_time(), bytes))
