"""Our session and muxer against stock libp2p's, over real sockets: who dials does not matter, nor who speaks first."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from libp2p import new_host
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from p2pshare.net.muxer import Muxer, MuxStream
from p2pshare.net.session import Session, secure_inbound, secure_outbound
from p2pshare_protocols import varint
from p2pshare_protocols.noise_cipher import NOISE
from p2pshare_protocols.yamux import PROTOCOL as YAMUX
from tests.support_session import ALICE

MIB = 1 << 20
ECHO = "/test/echo/1.0.0"
ROOT = "/multistream/1.0.0"
HOLD = "/test/hold/1.0.0"

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[int], Awaitable[bytes]]


async def read_line(receive: Receive) -> str:
    """One multistream line, byte by byte so that nothing behind it is taken."""
    size = (await receive(1))[0]
    assert size < 128
    line = b""
    while len(line) < size:
        line += await receive(size - len(line))
    return line.decode().rstrip("\n")


def line(text: str) -> bytes:
    data = text.encode() + b"\n"
    return varint.encode(len(data)) + data


async def propose(send: Send, receive: Receive, protocol: str) -> None:
    await send(line(ROOT) + line(protocol))
    assert await read_line(receive) == ROOT
    assert await read_line(receive) == protocol


async def answer(send: Send, receive: Receive, protocol: str) -> None:
    await send(line(ROOT))
    assert await read_line(receive) == ROOT
    while (wanted := await read_line(receive)) != protocol:
        await send(line("na"))
    await send(line(wanted))


def of_session(session: Session) -> tuple[Send, Receive]:
    async def send(data: bytes) -> None:
        await session.send([data])

    return send, session.receive_some


@asynccontextmanager
async def stock_host() -> AsyncIterator[object]:
    host = new_host(muxer_preference="YAMUX")
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        yield host


async def echo(stream: object) -> None:
    """Stock libp2p tells the end of a stream by b"" or by EOFError."""
    with suppress(EOFError):
        while data := await stream.read(1 << 16):  # type: ignore[attr-defined]
            await stream.write(data)  # type: ignore[attr-defined]
    await stream.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def dialled(host: object) -> AsyncIterator[Muxer]:
    """Our muxer on a connection that we made to a stock host."""
    address = host.get_addrs()[0]  # type: ignore[attr-defined]
    tcp = await trio.open_tcp_stream("127.0.0.1", int(address.value_for_protocol("tcp")))
    await propose(tcp.send_all, tcp.receive_some, NOISE)  # type: ignore[arg-type]
    peer = str(host.get_id())  # type: ignore[attr-defined]
    session = await secure_outbound(tcp, NOISE, ALICE, expected_peer=peer, muxers=[YAMUX])
    assert session.remote_peer == peer
    if session.muxer is None:
        await propose(*of_session(session), YAMUX)
    muxer = Muxer(session, initiator=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.run)
        yield muxer
        await muxer.aclose()
        nursery.cancel_scope.cancel()


async def echoed(stream: MuxStream, data: bytes) -> bytes:
    """Send all while receiving all; to the other side's end."""
    out = bytearray()
    async with trio.open_nursery() as nursery:

        async def push() -> None:
            await stream.send_all(data)
            await stream.send_eof()

        nursery.start_soon(push)
        while part := await stream.receive_some():
            out += part
    return bytes(out)


async def test_we_dial_stock_libp2p() -> None:
    data = os.urandom(4 * MIB)
    with trio.fail_after(30):
        async with stock_host() as host:
            host.set_stream_handler(ECHO, echo)  # type: ignore[attr-defined]
            async with dialled(host) as muxer:
                for payload in (b"short", data):
                    stream = await muxer.open_stream()
                    await propose(stream.send_all, stream.receive_some, ECHO)
                    assert await echoed(stream, payload) == payload
                    await stream.aclose()
                assert await muxer.ping() < 5


async def test_resets_cross_to_stock_libp2p_and_back() -> None:
    seen: list[str] = []
    cut = trio.Event()

    async def hold(stream: object) -> None:
        try:
            await stream.write(b"here")  # type: ignore[attr-defined]
            await stream.read(10)  # type: ignore[attr-defined]
            seen.append("ended")
        except StreamError:
            seen.append("reset")
        cut.set()

    async def drop(stream: object) -> None:
        await stream.reset()  # type: ignore[attr-defined]

    with trio.fail_after(30):
        async with stock_host() as host:
            host.set_stream_handler(HOLD, hold)  # type: ignore[attr-defined]
            host.set_stream_handler(ECHO, drop)  # type: ignore[attr-defined]
            async with dialled(host) as muxer:
                stream = await muxer.open_stream()
                await propose(stream.send_all, stream.receive_some, HOLD)
                assert await stream.receive_exactly(4) == b"here"
                await stream.reset()
                await cut.wait()
                assert seen == ["reset"]
                stream = await muxer.open_stream()
                with pytest.raises(trio.BrokenResourceError):
                    await propose(stream.send_all, stream.receive_some, ECHO)
                    while await stream.receive_some():
                        pass


async def test_stock_libp2p_dials_us() -> None:
    data = os.urandom(4 * MIB)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def serve_stream(stream: MuxStream) -> None:
        try:
            await answer(stream.send_all, stream.receive_some, ECHO)
            while part := await stream.receive_some():
                await stream.send_all(part)
            await stream.aclose()
        except (trio.BrokenResourceError, IndexError):  # identify and the like, which we do not speak
            await stream.reset()

    async def serve() -> None:
        tcp = await listener.accept()
        await answer(tcp.send_all, tcp.receive_some, NOISE)  # type: ignore[arg-type]
        session = await secure_inbound(tcp, NOISE, ALICE, muxers=[YAMUX])
        if session.muxer is None:
            await answer(*of_session(session), YAMUX)
        muxer = Muxer(session, initiator=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(muxer.run)
            async for stream in muxer.accepted():
                nursery.start_soon(serve_stream, stream)

    with trio.fail_after(30):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with stock_host() as host:
                info = info_from_p2p_addr(Multiaddr(f"/ip4/127.0.0.1/tcp/{port}/p2p/{ALICE.peer_id}"))
                await host.connect(info)  # type: ignore[attr-defined]
                stream = await host.new_stream(info.peer_id, [ECHO])  # type: ignore[attr-defined]
                out = bytearray()

                async def push() -> None:
                    await stream.write(data)

                async with trio.open_nursery() as both:
                    both.start_soon(push)
                    while len(out) < len(data):
                        out += await stream.read(1 << 16)
                assert bytes(out) == data
                await host.disconnect(info.peer_id)  # type: ignore[attr-defined]
            nursery.cancel_scope.cancel()
