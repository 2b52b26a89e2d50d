"""Who is dead, and who only slow: a peer that reads a byte a second, one whose kernel is silent, one that hangs."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from p2pshare.net.muxer import Muxer, MuxerLimits
from p2pshare.net.muxer_ping import Pings, Progress
from p2pshare.net.session_wire import make_wire
from p2pshare_protocols.yamux_streams import INITIAL_WINDOW
from tests.support_session import secured, socket_pair

LIMITS = MuxerLimits()


def slowed(receive: trio.abc.ReceiveStream) -> None:
    """Lets one byte through a second."""
    whole = receive.receive_some

    async def one(max_bytes: int | None = None) -> bytes:
        await trio.sleep(1)
        return bytes(await whole(1))

    receive.receive_some = one  # type: ignore[method-assign]


@pytest.mark.parametrize("holds", [True, False], ids=["the kernels hold it all", "the kernels are full"])
async def test_a_peer_that_reads_a_byte_a_second_lives_for_ten_minutes_and_harms_nobody(
    holds: bool, autojump_clock: trio.testing.MockClock
) -> None:
    pair = trio.testing.memory_stream_pair() if holds else trio.testing.lockstep_stream_pair()
    slow_session, its_session = await secured(*pair)
    slow, peer = Muxer(slow_session, initiator=True), Muxer(its_session, initiator=False)
    other_session, honest_session = await secured(*trio.testing.memory_stream_pair())
    other, honest = Muxer(other_session, initiator=True), Muxer(honest_session, initiator=False)
    async with trio.open_nursery() as nursery:
        for one in (slow, other, honest):
            nursery.start_soon(one.run)
        stream = await slow.open_stream()
        nursery.start_soon(stream.send_all, bytes(10 * INITIAL_WINDOW))
        slowed(pair[1].receive_stream)
        nursery.start_soon(peer.run)
        for _ in range(10):
            await trio.sleep(60)
            assert await other.ping() < 1
            assert not slow.on_closed.is_set(), slow.close_reason
            assert not peer.on_closed.is_set(), peer.close_reason
        assert slow.session.bytes_out <= 2 * INITIAL_WINDOW  # the rest waits with who sends it
        nursery.cancel_scope.cancel()


async def dies_after(progress: Progress) -> float:
    """Seconds until a peer that never answers is given up, when this is all that is seen of it."""
    pings = Pings(lambda value: None, lambda: progress, LIMITS)
    begun = trio.current_time()
    assert await pings.keep_alive()
    return trio.current_time() - begun


async def test_a_peer_whose_kernel_is_silent_is_dead_at_once_whatever_it_was_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert await dies_after(Progress(moved=10**9, sent=10**9, stuck=True, unacknowledged=31)) == 30


async def test_a_peer_that_hangs_is_dead_in_the_end(autojump_clock: trio.testing.MockClock) -> None:
    assert 30 <= await dies_after(Progress(moved=30, sent=30, stuck=False)) <= 60
    assert await dies_after(Progress(moved=10**9, sent=10**9, stuck=False)) == 900
    assert await dies_after(Progress(moved=10**9, sent=10**9, stuck=True)) == 900


async def test_what_a_peer_answered_for_it_has_read() -> None:
    def on_ping(value: int) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(pings.on_pong, value)

    pings = Pings(on_ping, lambda: Progress(10**9, 10**9, stuck=False), LIMITS)
    assert pings._patience(Progress(10**9, 10**9, stuck=False)) == 900
    with trio.fail_after(5):
        await pings.ping()
    assert pings._patience(Progress(10**9 + 30, 10**9 + 30, stuck=False)) == pytest.approx(45)


async def test_the_kernel_tells_whether_the_other_one_answers() -> None:
    left, right = await socket_pair()
    async with left, right:
        wire = make_wire(left)
        await wire.send(memoryview(bytes(1000)))
        assert await right.receive_some() == bytes(1000)
        assert wire.unacknowledged() == 0.0
    assert wire.unacknowledged() == 0.0  # closed
    assert hasattr(socket, "TCP_INFO")
