"""Two networks talk: streams, identify, pings, events, errors."""

from __future__ import annotations

from p2pshare.net.api import Stream
from tests.support_net import pair

ECHO = "/test/echo/1"


async def echo(stream: Stream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def test_a_stream_carries_bytes_both_ways_and_ends_properly() -> None:
    async with pair() as (one, two):
        two.handle(ECHO, echo)
        stream = await one.open_stream(two.peer_id, [ECHO])
        assert (stream.peer_id, stream.protocol) == (two.peer_id, ECHO)
        await stream.send_all(b"hello")
        assert await stream.receive_exactly(5) == b"hello"
        await stream.send_eof()
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_the_dialled_peer_opens_streams_too() -> None:
    async with pair() as (one, two):
        one.handle(ECHO, echo)
        async with await two.open_stream(one.peer_id, [ECHO]) as stream:
            await stream.send_all(b"back")
            assert await stream.receive_exactly(4) == b"back"
