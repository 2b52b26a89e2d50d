"""One stream a peer, questions in flight on it, and what happens when it breaks or hangs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from p2pshare.dht.engine import OURS
from p2pshare.dht.lines import IDLE, Lines
from p2pshare.errors import RemoteError, TimedOut
from p2pshare.net.api import Stream
from p2pshare_protocols.kad_messages import Kind, Message
from tests.support_dht import Board, FakeNetwork

PING = Message(Kind.PING)
PING_BYTES = b"\x02\x08\x05"


def asker_and_server(nursery: trio.Nursery, answers_per_stream: int) -> tuple[FakeNetwork, FakeNetwork]:
    """The server resets a stream when it is asked once more than `answers_per_stream`."""
    board = Board(nursery)
    asker, server = board.node(), board.node()
    asker.add_addresses(server.peer_id, [server.address])

    async def handle(stream: Stream) -> None:
        try:
            for _ in range(answers_per_stream):
                await stream.receive_exactly(3)
                await stream.send_all(PING_BYTES)
            await stream.receive_exactly(3)
        except trio.BrokenResourceError:
            pass
        await stream.reset()

    server.handle(OURS, handle)
    return asker, server


async def test_a_kept_line_that_breaks_is_opened_again_once(nursery: trio.Nursery) -> None:
    asker, server = asker_and_server(nursery, answers_per_stream=1)
    lines = Lines(asker, OURS, nursery)
    for _ in range(5):
        assert await lines.ask(server.peer_id, PING) == PING
    assert asker.opened == 5


async def test_a_new_line_that_breaks_is_an_error(nursery: trio.Nursery) -> None:
    asker, server = asker_and_server(nursery, answers_per_stream=0)
    lines = Lines(asker, OURS, nursery)
    with pytest.raises(RemoteError):
        await lines.ask(server.peer_id, PING)
    assert asker.opened == 1


async def test_a_hundred_questions_at_once_share_the_line(nursery: trio.Nursery) -> None:
    asker, server = asker_and_server(nursery, answers_per_stream=1000)
    lines = Lines(asker, OURS, nursery)
    async with trio.open_nursery() as asking:
        for _ in range(100):
            asking.start_soon(lines.ask, server.peer_id, PING)
    assert asker.opened == 1
    assert len(lines) == 1


async def test_who_waits_no_more_does_not_shift_the_answers(nursery: trio.Nursery) -> None:
    board = Board(nursery)
    asker, server = board.node(), board.node()
    asker.add_addresses(server.peer_id, [server.address])
    go = trio.Event()

    async def handle(stream: Stream) -> None:
        await stream.receive_exactly(3)
        await go.wait()
        await stream.send_all(PING_BYTES)
        await stream.receive_exactly(5)
        await stream.send_all(b"\x05\x08\x04\x12\x01a")

    server.handle(OURS, handle)
    lines = Lines(asker, OURS, nursery)
    with trio.move_on_after(0) as scope:
        await lines.ask(server.peer_id, PING)
    assert scope.cancelled_caught
    async with trio.open_nursery() as asking:
        asking.start_soon(_give_up_when, lines, server.peer_id, go)
        await trio.testing.wait_all_tasks_blocked()
    assert await lines.ask(server.peer_id, Message(Kind.FIND_NODE, key=b"a")) == Message(Kind.FIND_NODE, key=b"a")


async def _give_up_when(lines: Lines, peer_id: str, go: trio.Event) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lines.ask, peer_id, PING)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    go.set()


async def test_a_server_that_hangs_costs_the_limit(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    asker, server = asker_and_server(nursery, answers_per_stream=0)
    server.handle(OURS, _sleep)
    lines = Lines(asker, OURS, nursery, limit=4.0)
    with pytest.raises(TimedOut):
        await lines.ask(server.peer_id, PING)
    assert trio.current_time() == pytest.approx(4.0)
    assert len(lines) == 0


async def _sleep(stream: Stream) -> None:
    await trio.sleep_forever()


async def test_idle_lines_are_closed(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    asker, server = asker_and_server(nursery, answers_per_stream=9)
    lines = Lines(asker, OURS, nursery)
    await lines.ask(server.peer_id, PING)
    await lines.close_idle()
    assert len(lines) == 1
    await trio.sleep(IDLE + 1)
    await lines.close_idle()
    assert len(lines) == 0


async def test_lines_are_bounded(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pshare.dht.lines.MAX_LINES", 5)
    board = Board(nursery)
    asker = board.node()
    lines = Lines(asker, OURS, nursery)

    def handler() -> Callable[[Stream], object]:
        async def handle(stream: Stream) -> None:
            try:
                await stream.receive_exactly(3)
                await stream.send_all(PING_BYTES)
                await stream.receive_exactly(3)
            except trio.BrokenResourceError:
                await stream.reset()

        return handle

    for _ in range(12):
        server = board.node()
        server.handle(OURS, handler())  # type: ignore[arg-type]
        asker.add_addresses(server.peer_id, [server.address])
        await lines.ask(server.peer_id, PING)
    assert len(lines) <= 5
