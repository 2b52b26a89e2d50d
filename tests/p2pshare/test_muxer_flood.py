"""What a hostile peer may cost: streams opened and reset without end, and streams hoarded."""

from __future__ import annotations

import trio
import trio.testing

from p2pshare.net.muxer import Muxer, MuxerLimits, MuxStream
from p2pshare.net.session_base import SecureSession
from p2pshare_protocols.yamux_frames import GO_AWAY, HEADER, PROTOCOL_ERROR, RST, SYN, WINDOW_UPDATE, frame, unpack_from
from tests.support_session import secured, socket_pair


async def test_streams_reset_in_the_breath_that_opens_them_reach_nobody() -> None:
    alice, bob = await secured(*await socket_pair())
    seen: list[MuxStream] = []
    right = Muxer(bob, initiator=False, limits=MuxerLimits(max_inbound=4, resets=(2000, 1)), on_stream=seen.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.run)
        both = [frame(WINDOW_UPDATE, SYN, id, 0) + frame(WINDOW_UPDATE, RST, id, 0) for id in range(1, 2001, 2)]
        await alice.send(both)
        await alice.send([frame(WINDOW_UPDATE, SYN, 2001, 0)])
        with trio.fail_after(5):
            while not seen:
                await alice.receive_some()
        assert [stream.id for stream in seen] == [2001]
        assert right.stream_count == 1
        nursery.cancel_scope.cancel()
    await alice.abort()


def opened_and_reset(first: int, count: int) -> list[bytes]:
    ids = range(first, first + 2 * count, 2)
    return [frame(WINDOW_UPDATE, SYN, id, 0) + frame(WINDOW_UPDATE, RST, id, 0) for id in ids]


async def go_away_code(session: SecureSession) -> int:
    """The code of the first GO_AWAY that comes."""
    received = b""
    while True:
        received += await session.receive_some()
        while len(received) >= HEADER:
            _, kind, _, _, length = unpack_from(memoryview(received), 0)
            if kind == GO_AWAY:
                return int(length)
            received = received[HEADER:]


async def test_who_opens_and_resets_without_end_is_cut_off_with_the_right_code() -> None:
    alice, bob = await secured(*await socket_pair())
    right = Muxer(bob, initiator=False, limits=MuxerLimits(resets=(100, 1)), on_stream=lambda stream: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.run)
        await alice.send(opened_and_reset(1, 99))
        await alice.send(opened_and_reset(199, 50))
        with trio.fail_after(5):
            assert await go_away_code(alice) == PROTOCOL_ERROR
            await right.on_closed.wait()
        assert "resets them without end" in right.close_reason
    await alice.abort()


async def test_resets_that_are_few_a_second_are_nothing(autojump_clock: trio.testing.MockClock) -> None:
    alice, bob = await secured(*trio.testing.memory_stream_pair())
    limits = MuxerLimits(resets=(4, 1))
    right = Muxer(bob, initiator=False, limits=limits, on_stream=lambda stream: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.run)
        for number in range(40):
            await alice.send(opened_and_reset(2 * number + 1, 1))
            await trio.sleep(1)
        assert not right.on_closed.is_set()
        nursery.cancel_scope.cancel()


async def test_streams_opened_faster_than_allowed_are_reset_and_the_connection_lives() -> None:
    seen: list[MuxStream] = []
    alice, bob = await secured(*await socket_pair())
    right = Muxer(bob, initiator=False, limits=MuxerLimits(opens=(5, 0.001)), on_stream=seen.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.run)
        await alice.send([frame(WINDOW_UPDATE, SYN, id, 0) for id in range(1, 21, 2)])
        refused = 0
        received = b""
        with trio.fail_after(5):
            while refused < 5:
                received += await alice.receive_some()
                while len(received) >= HEADER:
                    _, _, flags, _, _ = unpack_from(memoryview(received), 0)
                    refused += bool(flags & RST)
                    received = received[HEADER:]
        assert [stream.id for stream in seen] == [1, 3, 5, 7, 9]
        assert not right.on_closed.is_set()
        nursery.cancel_scope.cancel()
    await alice.abort()
