"""A second connection to a peer beside the first: gone with its stream, or left when the first is given up."""

from __future__ import annotations

import errno
from typing import Any

import pytest
import trio

from p2pshare.net import tcp
from p2pshare.net.api import Stream
from tests.support_net import network

ECHO = "/p2pshare/test-echo/1.0.0"


async def echo(stream: Stream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)


async def say(stream: Stream, text: bytes) -> None:
    await stream.send_all(text)
    assert await stream.receive_exactly(len(text)) == text


async def until_connections(net: Any, count: int) -> None:
    with trio.fail_after(5):
        while net.status()["connections"] != count:
            await trio.lowlevel.checkpoint()


async def test_a_stream_beside_has_a_connection_of_its_own_that_ends_with_it() -> None:
    async with network(1) as near, network(2) as far:
        far.handle(ECHO, echo)
        await near.connect(far.addresses()[0])
        first = await near.open_stream(far.peer_id, [ECHO])
        await say(first, b"one")
        beside = await near.open_stream_beside(far.peer_id, [ECHO])
        await say(beside, b"two")
        assert near.status()["connections"] == 2
        await say(first, b"three")
        await beside.reset()
        await until_connections(near, 1)
        await say(first, b"four")
        await first.reset()


async def test_the_connection_beside_stays_when_the_silent_one_is_abandoned() -> None:
    async with network(1) as near, network(2) as far:
        far.handle(ECHO, echo)
        await near.connect(far.addresses()[0])
        first = await near.open_stream(far.peer_id, [ECHO])
        await say(first, b"one")
        assert first.connection_received > 0
        beside = await near.open_stream_beside(far.peer_id, [ECHO])
        first.abandon_connection()
        with pytest.raises(trio.BrokenResourceError):
            await first.receive_some()
        await until_connections(near, 1)
        await beside.reset()
        async with await near.open_stream(far.peer_id, [ECHO]) as again:
            await say(again, b"two")
        assert near.status()["connections"] == 1


async def test_a_link_that_comes_back_is_found_by_an_attempt_that_began_after_it(monkeypatch: Any) -> None:
    tries: list[int] = []
    listener = await tcp.bind(["/ip4/127.0.0.1/tcp/0"])
    real = tcp.dial

    async def lossy(host: str, port: int, family: int = 0) -> trio.SocketStream:
        tries.append(len(tries))
        if len(tries) == 1:
            await trio.sleep_forever()  # its SYN was lost
        if len(tries) == 2:
            raise OSError(errno.EHOSTUNREACH, "no route to host")
        return await real(host, port, family)

    monkeypatch.setattr(tcp, "dial", lossy)
    monkeypatch.setattr(tcp, "_SYN_AGAIN", 0.01)
    ip, port = tcp.bound_to(listener[0])
    with trio.fail_after(5):
        stream = await tcp.dial_persistently(str(ip), port)
    assert len(tries) >= 3
    await stream.aclose()
    listener[0].close()
    monkeypatch.setattr(tcp, "dial", real)
    with pytest.raises(ConnectionRefusedError), trio.fail_after(5):
        await tcp.dial_persistently(str(ip), port)
