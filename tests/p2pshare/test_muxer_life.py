"""The muxer's life and death: who is noticed to be gone, who is not mistaken for it, and what a cancelled one does."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pshare.net.muxer import Muxer
from p2pshare_protocols.yamux_streams import INITIAL_WINDOW
from tests.support_session import muxers, open_muxers, secured, stream_pair


async def test_a_peer_that_is_gone_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    alice, bob = await secured(*trio.testing.memory_stream_pair())
    left = Muxer(alice, initiator=True)
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        await left.on_closed.wait()
        assert "does not answer" in left.close_reason
        assert 30 <= trio.current_time() - begun <= 60
    await bob.abort()


async def test_an_idle_connection_lives_on_pings(autojump_clock: trio.testing.MockClock) -> None:
    async with open_muxers(memory=True) as (left, right):
        before = left.session.bytes_out
        await trio.sleep(600)
        assert not left.on_closed.is_set()
        assert 600 < left.session.bytes_out - before < 3000
        assert await right.ping() >= 0


async def test_a_peer_that_moves_slowly_is_not_mistaken_for_dead(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The peer takes one small piece of the wire every 20 s, and answers a ping minutes late."""
    left_end, right_end = trio.testing.lockstep_stream_pair()
    alice, bob = await secured(left_end, right_end)
    left = Muxer(alice, initiator=True)
    right = Muxer(bob, initiator=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        stream = await left.open_stream()
        nursery.start_soon(stream.send_all, bytes(INITIAL_WINDOW))
        receive = right_end.receive_stream.receive_some

        async def slowly(max_bytes: int | None = None) -> bytes:
            await trio.sleep(20)
            return bytes(await receive(min(20_000, max_bytes or 20_000)))

        right_end.receive_stream.receive_some = slowly  # type: ignore[method-assign]
        nursery.start_soon(right.run)
        await trio.sleep(200)
        assert not left.on_closed.is_set()
        assert not right.on_closed.is_set()
        nursery.cancel_scope.cancel()


async def test_cancelling_run_aborts_and_wakes_everyone() -> None:
    async with trio.open_nursery() as nursery:
        left, right = await muxers(nursery)
        near, _ = await stream_pair(left, right)

        async def wait() -> None:
            with pytest.raises((trio.BrokenResourceError, trio.Cancelled)):
                await near.receive_some()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert left.on_closed.is_set()
    assert left.close_reason
