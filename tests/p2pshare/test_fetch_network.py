"""Fetching over real networks on loopback: two and three nodes, real stores, real files."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from p2pshare.errors import VerificationFailed
from p2pshare.exchange.answers import Buffers
from p2pshare.exchange.wire import FrameReader
from p2pshare.net.api import Stream
from p2pshare_protocols import exchange_messages as x
from tests.support_exchange import Node, node
from tests.support_net import network

MIB = 1 << 20


@asynccontextmanager
async def nodes(count: int, base: Path) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        made = []
        for number in range(1, count + 1):
            net = await stack.enter_async_context(network(number))
            made.append(await stack.enter_async_context(node(net, base / str(number))))
        yield made


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def test_a_tree_moves_between_two_nodes_and_on_to_a_third(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "big").write_bytes(noise(5 * MIB + 3))
    for n in range(1500):
        (tree / "sub" / f"{n}").write_bytes(b"%d" % n)
    async with nodes(3, tmp_path) as (one, two, three):
        cid = await one.share(tree)
        await two.fetch(cid, tmp_path / "second", peer=one.network.addresses())
        done = await three.fetch(cid, tmp_path / "third", peer=two.network.addresses())
        assert done["files"] == 1501
        for copy in ("second", "third"):
            assert (tmp_path / copy / "big").read_bytes() == noise(5 * MIB + 3)
            assert all((tmp_path / copy / "sub" / f"{n}").read_bytes() == b"%d" % n for n in range(1500))


async def test_two_sources_share_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(noise(48 * MIB))
    async with nodes(3, tmp_path) as (one, two, three):
        cid = await one.share(tmp_path / "file")
        await two.share(tmp_path / "file")
        peers = [*one.network.addresses(), *two.network.addresses()]
        done = await three.fetch(cid, tmp_path / "out", peer=peers)
        assert (tmp_path / "out").read_bytes() == noise(48 * MIB)
        assert done["sources"] == 2


async def test_a_wrong_byte_over_the_network_is_refused_alone_and_made_good_beside_an_honest_source(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(noise(6 * MIB))
    async with nodes(3, tmp_path) as (one, evil, three):
        cid = await one.share(tmp_path / "file")

        async def serve(stream: Stream) -> None:
            async def emit(frame: object) -> None:
                payload = bytearray(b"".join(frame.parts))  # type: ignore[attr-defined]
                if isinstance(frame.answer, x.BlocksData):  # type: ignore[attr-defined]
                    payload[100] ^= 1
                await stream.send_all(x.encode(frame.answer) + payload)  # type: ignore[attr-defined]

            frames = FrameReader(stream)
            while (message := await frames.header()) is not None:
                if isinstance(message, x.Have | x.Nodes | x.Blocks):
                    await one.server.answerer.answer(message, lambda: True, emit, Buffers())

        evil.network.handle(x.PROTOCOL, serve)
        with pytest.raises(VerificationFailed):
            await three.fetch(cid, tmp_path / "out", peer=evil.network.addresses())
        part = tmp_path / "out.part"
        assert not part.exists() or not any(part.read_bytes())
        peers = [*evil.network.addresses(), *one.network.addresses()]
        done = await three.fetch(cid, tmp_path / "out", peer=peers)
        assert (tmp_path / "out").read_bytes() == noise(6 * MIB)
        assert done["sources"] == 1
