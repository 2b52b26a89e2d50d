"""What strangers send, on bare TCP and on streams, and an honest peer that is still answered."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
import trio.testing

from p2pshare.net import Limits, ping
from p2pshare.net.api import Network, Stream
from p2pshare.net.guard import HalfOpenLimits, StreamRoom
from p2pshare.net.layers import Muxer
from p2pshare_protocols.multistream import encode
from tests.support_net import network, pair, raw_connection, raw_tcp, until

BAD_NAME = b"\x03\xff\xfe\n"  # a length and three bytes: what ends a stock libp2p 0.8.1 process
GREETING = encode("/multistream/1.0.0")
HOSTILE = {
    "a name that is not UTF-8": BAD_NAME,
    "a greeting, then a name that is not UTF-8": GREETING + BAD_NAME,
    "a huge length": b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    "a length of nothing": b"\x00",
    "an HTTP request": b"GET / HTTP/1.1\r\n\r\n",
    "noise": bytes(range(256)) * 64,
    "plaintext only": GREETING + encode("/plaintext/2.0.0"),
    "secio only": GREETING + encode("/secio/1.0.0"),
    "a session, then garbage": GREETING + encode("/noise") + b"\xff" * 4096,
    "a session, then an endless message": GREETING + encode("/noise") + b"\xff\xff" + bytes(70000),
}


async def answers(net: Network, number: int = 9) -> None:
    """An honest newcomer connects and is answered."""
    async with network(number) as honest:
        await honest.connect(net.addresses()[0])
        async with await honest.open_stream(net.peer_id, [ping.PROTOCOL]) as stream:
            await ping.measure(stream)


async def drain(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            received += data
    return received


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE.keys())
async def test_bytes_of_a_stranger_on_tcp_end_its_connection_only(sent: bytes) -> None:
    async with network(1) as net:
        async with await raw_tcp(net.addresses()[0]) as stranger:
            with contextlib.suppress(trio.BrokenResourceError):
                await stranger.send_all(sent)
                await stranger.send_eof()
            received = await drain(stranger)
        assert net.peers() == []
        for never in (b"plaintext", b"secio", b"mplex", b"/tls"):
            assert never not in received
        await answers(net)


async def test_plaintext_is_refused_and_no_session_begins() -> None:
    async with network(1) as net, await raw_tcp(net.addresses()[0]) as stranger:
        await stranger.send_all(GREETING + encode("/plaintext/2.0.0"))
        with trio.fail_after(5):
            expected = GREETING + encode("na")
            received = b""
            while len(received) < len(expected):
                received += await stranger.receive_some()
        assert received == expected


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE.keys())
async def test_bytes_of_a_stranger_on_a_stream_end_that_stream_only(sent: bytes) -> None:
    async with network(1) as net, raw_connection(2, net.addresses()[0]) as muxer:
        hostile = await muxer.open()
        await hostile.send_all(sent)
        await hostile.send_eof()
        received = b""
        with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(5):
            while data := await hostile.receive_some():
                received += data
        good = await muxer.open()
        await good.send_all(GREETING + encode(ping.PROTOCOL) + bytes(32))
        expected = GREETING + encode(ping.PROTOCOL) + bytes(32)
        with trio.fail_after(5):
            assert await good.receive_exactly(len(expected)) == expected
        await answers(net)


async def test_a_silent_stranger_is_let_go_after_the_limit() -> None:
    async with network(1, limits=Limits(handshake_seconds=0.1)) as net:
        async with await raw_tcp(net.addresses()[0]) as stranger:
            with trio.fail_after(5):
                assert await drain(stranger) == b""
        await trio.testing.wait_all_tasks_blocked()
        assert net.status()["half_open"] == 0


async def test_one_address_full_of_silent_connections_drops_its_own() -> None:
    limits = Limits(half_open=HalfOpenLimits(total=16, per_network=8, per_address=4))
    async with network(1, limits=limits, allow_private_addresses=False) as net:
        silent = [await raw_tcp(net.addresses()[0]) for _ in range(20)]
        await answers(net)
        assert int(str(net.status()["half_open"])) <= 4
        for stream in silent:
            await trio.aclose_forcefully(stream)


async def test_a_flood_past_the_total_does_not_shut_out_an_honest_peer() -> None:
    limits = Limits(half_open=HalfOpenLimits(total=16))
    async with network(1, limits=limits) as net:
        silent = [await raw_tcp(net.addresses()[0]) for _ in range(100)]
        await answers(net)
        for stream in silent:
            await trio.aclose_forcefully(stream)


async def test_three_hundred_connections_in_a_row_are_all_answered() -> None:
    """A stock libp2p 0.8.1 host takes no more after 250 in its life."""
    async with network(1) as net:
        for _ in range(300):
            async with raw_connection(2, net.addresses()[0]) as muxer:
                stream = await muxer.open()
                await stream.send_all(GREETING + encode(ping.PROTOCOL) + bytes(32))
                expected = GREETING + encode(ping.PROTOCOL) + bytes(32)
                with trio.fail_after(10):
                    assert await stream.receive_exactly(len(expected)) == expected


async def test_connections_are_bounded_and_idle_ones_give_way_to_none_that_is_in_use() -> None:
    async with network(1, max_connections=3) as net:

        async def hold(stream: Stream) -> None:
            await stream.receive_exactly(1)

        net.handle("/test/hold/1", hold)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(2, 8):
                try:
                    muxer = await stack.enter_async_context(raw_connection(number, net.addresses()[0]))
                    stream = await muxer.open()
                    await stream.send_all(GREETING + encode("/test/hold/1"))
                    await stream.receive_exactly(1)
                except trio.BrokenResourceError:
                    continue
            assert len(net.peers()) == 3


async def test_streams_left_without_a_word_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pshare.net.connection.NEGOTIATION_SECONDS", 0.1)
    async with network(1) as net, raw_connection(2, net.addresses()[0]) as muxer:
        silent = await muxer.open()
        await silent.send_all(GREETING[:3])
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await silent.receive_exactly(1)


async def test_a_lost_connection_is_noticed_and_its_streams_break() -> None:
    async with pair() as (one, two):
        await until(two, lambda: two.is_connected(one.peer_id))
        begun, ended = trio.Event(), trio.Event()

        async def read(stream: Stream) -> None:
            begun.set()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_exactly(1)
            ended.set()
            raise trio.BrokenResourceError

        two.handle("/test/read/1", read)
        stream = await one.open_stream(two.peer_id, ["/test/read/1"])
        with trio.fail_after(5):
            await begun.wait()
        await one.disconnect(two.peer_id)
        with trio.fail_after(5):
            await ended.wait()
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await stream.receive_exactly(1)
        await stream.aclose()


async def test_streams_hoarded_on_many_connections_leave_some_for_the_others() -> None:
    asked = GREETING + encode(ping.PROTOCOL) + bytes(32)

    async def answered(muxer: Muxer, count: int) -> int:
        """How many of `count` streams are served."""
        served = 0
        for _ in range(count):
            stream = await muxer.open()
            with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(5):
                await stream.send_all(asked)
                await stream.receive_exactly(len(asked))
                served += 1
        return served

    async with network(1, limits=Limits(streams=10)) as net:
        async with raw_connection(2, net.addresses()[0]) as hoarder, raw_connection(3, net.addresses()[0]) as other:
            assert await answered(hoarder, 20) == 10
            assert await answered(other, 20) == StreamRoom.ALWAYS
            status: Any = net.status()
            assert (status["streams"], status["refused"]["streams"]) == (18, 22)
        await until(net, lambda: net.status()["connections"] == 0)
        await trio.testing.wait_all_tasks_blocked()
        assert net.status()["streams"] == 0
