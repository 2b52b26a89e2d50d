"""Bytes for a reader that waits are put straight into its buffer, and no cut, reset or damage makes them count."""

from __future__ import annotations

import os

import pytest
import trio

from p2pshare.net.muxer_stream import MuxStream
from tests.support_session import open_muxers, stream_pair

MIB = 1 << 20


async def test_bulk_for_a_waiting_reader_is_hardly_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    delivered = placed = 0
    deliver, place = MuxStream.deliver, MuxStream.placed

    def count_delivered(stream: MuxStream, data: memoryview) -> bool:
        nonlocal delivered
        delivered += len(data)
        return deliver(stream, data)

    def count_placed(stream: MuxStream, size: int) -> None:
        nonlocal placed
        placed += size
        place(stream, size)

    monkeypatch.setattr(MuxStream, "deliver", count_delivered)
    monkeypatch.setattr(MuxStream, "placed", count_placed)
    data = os.urandom(8 * MIB)
    with trio.fail_after(20):
        async with open_muxers() as (left, right):
            near, far = await stream_pair(left, right)
            got = bytearray(len(data))

            async def read() -> None:
                view = memoryview(got)
                while view:
                    view = view[await far.receive_into(view) :]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(near.send_all, data)
            assert got == data
    assert placed + delivered == len(data)
    assert placed > 0.6 * len(data)


async def give_up(scope: trio.CancelScope, turns: int) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_reader_that_gives_up_leaves_the_rest_for_the_next() -> None:
    data = os.urandom(MIB)
    with trio.fail_after(20):
        async with open_muxers() as (left, right):
            near, far = await stream_pair(left, right)
            got = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.send_all, data)
                turns = 0
                while len(got) < len(data):
                    view = memoryview(bytearray(30_000))
                    with trio.CancelScope() as scope:
                        nursery.start_soon(give_up, scope, turns % 6)
                        got += view[: await far.receive_into(view)]
                    turns += 1
                    if turns % 6 == 0 and len(got) < len(data):  # so that it comes to an end
                        got += view[: await far.receive_into(view)]
            assert got == data


async def test_a_reset_in_the_middle_of_a_frame_is_no_end() -> None:
    with trio.fail_after(20):
        async with open_muxers() as (left, right):
            near, far = await stream_pair(left, right)
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    with pytest.raises(trio.BrokenResourceError):
                        while True:
                            await near.send_all(bytes(MIB))

                nursery.start_soon(send)
                view = memoryview(bytearray(4 * MIB))
                await far.receive_into(view)
                await far.reset()
                with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
                    await far.receive_into(view)
            other, there = await stream_pair(left, right)  # the connection goes on
            await other.send_all(b"on")
            assert await there.receive_exactly(2) == b"on"
