"""A piece of which a half came before its source went: the other half is asked for, and nothing twice."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from p2pshare.exchange.answers import Buffers
from p2pshare.exchange.wire import FrameReader
from p2pshare.net.api import Stream
from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.cid import CID
from tests.support_exchange import MemoryStream, World, node

FILES, SIZE = 40, 20_000  # one piece


async def test_what_was_verified_of_a_half_received_piece_is_not_fetched_again(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    world = World(nursery)
    asked: list[tuple[bytes, ...]] = []

    async with AsyncExitStack() as stack:
        holder = await stack.enter_async_context(node(world.node("holder"), tmp_path / "holder"))
        taker = await stack.enter_async_context(node(world.node("taker"), tmp_path / "taker"))
        tree = tmp_path / "tree"
        tree.mkdir()
        for number in range(FILES):
            (tree / f"{number:02}").write_bytes(random.Random(number).randbytes(SIZE))
        cid = await holder.share(tree)

        async def serve(stream: Stream) -> None:
            assert isinstance(stream, MemoryStream)

            async def emit(frame: object) -> None:
                await stream.send_all(x.encode(frame.answer) + b"".join(frame.parts))  # type: ignore[attr-defined]

            frames = FrameReader(stream)
            while (message := await frames.header()) is not None:
                if isinstance(message, x.Blocks):
                    asked.append(message.cids)
                    if len(asked) == 1:
                        await _send_half(holder.reader, stream, message)
                        return
                if isinstance(message, x.Have | x.Nodes | x.Blocks):
                    await holder.server.answerer.answer(message, lambda: True, emit, Buffers())

        world.node("half").handle(x.PROTOCOL, serve)
        with trio.fail_after(20):
            await taker.fetch(cid, tmp_path / "out", peer=["/memory/p2p/half"])
    first, second = asked
    assert len(first) == FILES
    assert second == first[FILES // 2 :]
    for number in range(FILES):
        assert (tmp_path / "out" / f"{number:02}").read_bytes() == random.Random(number).randbytes(SIZE)


async def _send_half(reader: object, stream: MemoryStream, request: x.Blocks) -> None:
    """The first half of what was asked for, all of it read by the asker, then a reset."""
    blocks = [
        await reader.read(CID.from_binary(cid))  # type: ignore[attr-defined]
        for cid in request.cids[: FILES // 2]
    ]
    answer = x.BlocksData(request.id, tuple(map(len, blocks)), end=False)
    await stream.send_all(x.encode(answer) + b"".join(blocks))
    other = stream.other
    async with other._change:
        while other._buffer:
            await other._change.wait()
    await stream.reset()
