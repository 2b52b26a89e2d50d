"""The muxer between two ends: bulk, fairness, ends that are ends, limits, closing."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

import pytest
import trio
import trio.testing

from p2pshare.errors import QuotaExceeded
from p2pshare.net.muxer import Muxer, MuxerLimits, MuxStream, ReceiveBudget
from p2pshare.net.session import Session
from p2pshare_protocols.yamux_frames import (
    DATA,
    FIN,
    GO_AWAY,
    PROTOCOL_ERROR,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame,
    unpack_from,
)
from p2pshare_protocols.yamux_streams import INITIAL_WINDOW
from tests.support_session import open_muxers, secured, socket_pair, stream_pair

MIB = 1 << 20
both_wires = pytest.mark.parametrize("memory", [True, False])


async def read_all(stream: MuxStream) -> bytes:
    out = bytearray()
    while data := await stream.receive_some():
        out += data
    return bytes(out)


@both_wires
async def test_bulk_arrives_whole_in_both_directions_at_once(memory: bool) -> None:
    data = os.urandom(4 * MIB)
    with trio.fail_after(30):
        async with open_muxers(memory=memory) as (left, right):
            near, far = await stream_pair(left, right)

            async def send(stream: MuxStream) -> None:
                await stream.send_all(data)
                await stream.send_eof()

            async def receive(stream: MuxStream, into: bool) -> None:
                if not into:
                    assert await read_all(stream) == data
                    return
                out, view = bytearray(), bytearray(100_001)
                while count := await stream.receive_into(view):
                    out += view[:count]
                assert bytes(out) == data

            async with trio.open_nursery() as nursery:
                for stream, into in ((near, True), (far, False)):
                    nursery.start_soon(send, stream)
                    nursery.start_soon(receive, stream, into)
            await trio.testing.wait_all_tasks_blocked()
            assert left.stream_count == right.stream_count == 0
            assert left._budget.held == left._budget.granted == right._budget.held == 0


async def test_many_streams_take_turns_and_a_ping_does_not_wait() -> None:
    with trio.fail_after(30):
        async with open_muxers() as (left, right):
            done: list[int] = []

            async def pump(number: int, size: int) -> None:
                near, far = await stream_pair(left, right)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(near.send_all, bytes(size))
                    got = 0
                    while got < size:
                        got += len(await far.receive_some())
                done.append(number)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, 0, 24 * MIB)
                nursery.start_soon(pump, 1, 1 * MIB)
                nursery.start_soon(pump, 2, 1 * MIB)
                pings = [await left.ping() for _ in range(5)]
            assert done[-1] == 0  # the small ones did not wait for the large one
            assert sorted(pings)[2] < 0.1
            assert left.rtt is not None


async def test_half_close_lets_the_answer_come() -> None:
    async with open_muxers() as (left, right):
        near, far = await stream_pair(left, right)
        await near.send_all(b"question")
        await near.send_eof()
        assert await read_all(far) == b"question"
        await far.send_all(b"answer")
        await far.aclose()
        assert await near.receive_exactly(6) == b"answer"
        assert await near.receive_some() == b""
        await near.aclose()


async def test_what_was_sent_before_aclose_arrives() -> None:
    async with open_muxers() as (left, right):
        near, far = await stream_pair(left, right)
        await near.send_all(bytes(INITIAL_WINDOW))
        await near.aclose()
        assert len(await read_all(far)) == INITIAL_WINDOW


async def _cut_by_reset(stream: MuxStream) -> None:
    await stream.reset()


async def _cut_by_error(stream: MuxStream) -> None:
    with pytest.raises(ZeroDivisionError):
        async with stream:
            raise ZeroDivisionError


async def _cut_by_cancel(stream: MuxStream) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.aclose()


async def _cut_while_sending(stream: MuxStream) -> None:
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(bytes(2 * INITIAL_WINDOW))

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()


@pytest.mark.parametrize("cut", [_cut_by_reset, _cut_by_error, _cut_by_cancel, _cut_while_sending])
async def test_a_stream_that_is_cut_never_looks_ended(cut: Callable[[MuxStream], trio.abc.AsyncResource]) -> None:
    with trio.fail_after(5):
        async with open_muxers() as (left, right):
            near, far = await stream_pair(left, right)
            await near.send_all(b"some")
            assert await far.receive_exactly(4) == b"some"
            await cut(near)
            with pytest.raises(trio.BrokenResourceError):
                await read_all(far)
            with pytest.raises(trio.BrokenResourceError):
                await far.send_all(b"x")
            other, _ = await stream_pair(left, right)  # the connection goes on
            await other.send_all(b"x")


async def test_an_end_and_a_reset_in_one_record_break_the_sender() -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            right, alice = await raw_peer(nursery)
            await alice.send([frame(WINDOW_UPDATE, SYN, 1, 0) + frame(DATA, 0, 1, 5) + b"whole"])
            stream = await right.accept_stream()
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as sending:

                async def send() -> None:
                    with pytest.raises(trio.BrokenResourceError):
                        await stream.send_all(bytes(2 * INITIAL_WINDOW))

                sending.start_soon(send)
                await trio.testing.wait_all_tasks_blocked()
                await alice.send([frame(WINDOW_UPDATE, FIN, 1, 0) + frame(WINDOW_UPDATE, RST, 1, 0)])
            assert await read_all(stream) == b"whole"
            assert right.stream_count == 0
            nursery.cancel_scope.cancel()
        await alice.abort()


async def test_a_lost_connection_breaks_its_streams_but_not_what_was_finished() -> None:
    alice, bob = await secured(*await socket_pair())
    left, right = Muxer(alice, initiator=True), Muxer(bob, initiator=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        nursery.start_soon(right.run)
        finished, finished_far = await stream_pair(left, right)
        cut, cut_far = await stream_pair(left, right)
        await finished.send_all(b"whole")
        await finished.send_eof()
        await cut.send_all(b"half")
        await left.ping()
        await alice._wire.aclose()  # no goodbye
        await right.on_closed.wait()
        assert "without a goodbye" in right.close_reason
        assert await read_all(finished_far) == b"whole"
        assert await cut_far.receive_some() == b"half"
        for call in (cut_far.receive_some, lambda: cut_far.send_all(b"x"), right.open_stream, right.ping):
            with pytest.raises(trio.BrokenResourceError):
                await call()
        with pytest.raises(trio.EndOfChannel):
            await right.accept_stream()
        assert right.is_leaving


async def test_what_nobody_reads_is_given_back_to_the_process_when_the_connection_ends() -> None:
    alice, bob = await secured(*await socket_pair())
    process = ReceiveBudget(64 * MIB)
    left, right = Muxer(alice, initiator=True), Muxer(bob, initiator=False, process_budget=process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        nursery.start_soon(right.run)
        near, far = await stream_pair(left, right)
        await near.send_all(bytes(1000))
        await left.ping()
        assert process.held == 1000
        await left.aclose()
        await right.on_closed.wait()
        assert process.held == 0
        assert len(await far.receive_exactly(1000)) == 1000  # still there for who reads
        assert process.held == 0


async def test_closing_says_goodbye_and_delivers() -> None:
    async with open_muxers() as (left, right):
        near, far = await stream_pair(left, right)
        await near.send_all(b"last words")
        await near.send_eof()
        await left.aclose()
        await right.on_closed.wait()
        assert left.close_reason == right.close_reason == ""
        assert await read_all(far) == b"last words"
        await left.aclose()


async def test_closing_a_connection_that_was_lost_is_quiet() -> None:
    left_end, right_end = await socket_pair()
    alice, bob = await secured(left_end, right_end)
    left = Muxer(alice, initiator=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        await left.open_stream()
        await trio.testing.wait_all_tasks_blocked()
        # Reset by the kernel, and no task has had a turn to see it.
        right_end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        right_end.socket.close()
        with trio.fail_after(0.5):
            await left.aclose()
        await left.aclose()
    await bob.aclose()


async def test_closing_does_not_wait_for_a_peer_that_never_reads() -> None:
    alice, bob = await secured(*await socket_pair())
    left = Muxer(alice, initiator=True, limits=MuxerLimits(close_timeout=0.2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        streams = [await left.open_stream() for _ in range(60)]

        async def push(stream: MuxStream) -> None:
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await stream.send_all(bytes(MIB))

        for stream in streams:
            nursery.start_soon(push, stream)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(2):
            await left.aclose()
    await bob.abort()


async def test_a_closed_stream_that_the_peer_never_finishes_is_reset(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_muxers(memory=True) as (left, right):
        near, far = await stream_pair(left, right)
        await near.aclose()
        assert await far.receive_some() == b""
        await trio.sleep(9)
        assert left.stream_count == 1
        await trio.sleep(2)
        assert left.stream_count == right.stream_count == 0


# Limits.


async def test_the_window_grows_for_a_quick_reader_within_the_budget() -> None:
    limits = MuxerLimits(max_window=4 * MIB, receive_budget=2 * MIB)
    process = ReceiveBudget(64 * MIB)
    async with trio.open_nursery() as nursery:
        alice, bob = await secured(*await socket_pair())
        left = Muxer(alice, initiator=True)
        right = Muxer(bob, initiator=False, limits=limits, process_budget=process)
        nursery.start_soon(left.run)
        nursery.start_soon(right.run)
        near, far = await stream_pair(left, right)
        nursery.start_soon(near.send_all, bytes(16 * MIB))
        await far.receive_exactly(16 * MIB)
        assert INITIAL_WINDOW < right._machine.window_size(far.id) <= 2 * MIB
        assert process.granted == right._machine.window_size(far.id) - INITIAL_WINDOW
        await far.reset()
        assert process.granted == process.held == 0
        nursery.cancel_scope.cancel()


async def test_streams_that_hoard_are_reset_at_the_budget() -> None:
    limits = MuxerLimits(receive_budget=3 * INITIAL_WINDOW)
    with trio.fail_after(10):
        async with open_muxers(limits=limits) as (left, right):
            pairs = [await stream_pair(left, right) for _ in range(4)]
            for near, _ in pairs:
                await near.send_all(bytes(INITIAL_WINDOW))
            await left.ping()
            with pytest.raises(trio.BrokenResourceError):
                await pairs[3][1].receive_some()
            assert right._budget.held == 3 * INITIAL_WINDOW
            assert len(await pairs[0][1].receive_exactly(INITIAL_WINDOW)) == INITIAL_WINDOW


async def test_single_bytes_do_not_become_objects() -> None:
    async with open_muxers() as (left, right):
        near, far = await stream_pair(left, right)
        for _ in range(2000):
            await near.send_all(b"x")
        await left.ping()
        assert len(far._chunks) == 1
        assert await far.receive_exactly(2000) == b"x" * 2000


async def test_our_own_limit_of_streams() -> None:
    async with open_muxers(limits=MuxerLimits(max_outbound=2)) as (left, _):
        await left.open_stream()
        await left.open_stream()
        with pytest.raises(QuotaExceeded):
            await left.open_stream()


async def test_opening_waits_for_the_peer_to_accept_so_many() -> None:
    alice, bob = await secured(*await socket_pair())
    left = Muxer(alice, initiator=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        for _ in range(256):
            await left.open_stream()
        with trio.move_on_after(0.05) as scope:
            await left.open_stream()
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()
    await bob.abort()


async def raw_peer(nursery: trio.Nursery) -> tuple[Muxer, Session]:
    """A muxer that runs, and the session of a peer that sends whatever it likes."""
    alice, bob = await secured(*await socket_pair())
    right = Muxer(bob, initiator=False)
    nursery.start_soon(right.run)
    return right, alice


@pytest.mark.parametrize("attack", [
    frame(DATA, 0, 3, 5),
    frame(WINDOW_UPDATE, SYN, 1, 0) + frame(DATA, 0, 1, 17 * MIB),
    b"GET / HTTP/1.1\r\n",
    b"".join(frame(WINDOW_UPDATE, SYN, id, 0) for id in range(1, 2000, 2)),
])  # fmt: skip
async def test_a_violation_ends_the_connection_with_a_go_away(attack: bytes) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            right, alice = await raw_peer(nursery)
            await alice.send([attack])
            await right.on_closed.wait()
            assert "broke the protocol" in right.close_reason
            wire = bytearray()
            while data := await alice.receive_some():
                wire += data
            assert unpack_from(wire, len(wire) - 12) == (0, GO_AWAY, 0, 0, PROTOCOL_ERROR)
            await alice.aclose()


async def test_a_peer_that_ignores_its_window_makes_us_hold_one_window_at_most() -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            right, alice = await raw_peer(nursery)
            await alice.send([frame(WINDOW_UPDATE, SYN, 1, 0)])
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await alice.send([frame(DATA, 0, 1, 1 << 16), bytes(1 << 16)])
            await right.on_closed.wait()
            assert right._budget.held <= INITIAL_WINDOW
            await alice.abort()
