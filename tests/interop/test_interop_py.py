"""Our network and stock py-libp2p, in both directions, over Noise and over TLS, on real sockets."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.ping import PingService
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.tls.transport import TLSTransport
from multiaddr import Multiaddr

from p2pshare.net import ping
from p2pshare.net.api import Network
from tests.support_interop import (
    DIGEST,
    ECHO,
    HOLD,
    MIB,
    RESET,
    OurSide,
    asked_digest,
    echoed,
    held_and_reset,
    was_reset,
)
from tests.support_net import identified, network

pytestmark = pytest.mark.slow
SECURITIES = {"noise": "/noise", "tls": "/tls/1.0.0"}
each_security = pytest.mark.parametrize("security", SECURITIES)
each_direction = pytest.mark.parametrize("dialler", ["us", "py"])
BIG = 64 * MIB
TEXT = b"the half that is closed"
DIGEST_OF_TEXT = {"size": len(TEXT), "sha256": hashlib.sha256(TEXT).hexdigest()}


class Stock:
    """A stock host that serves the test protocols. It tells the end of a stream by b"" or by StreamEOF."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.peer_id = str(host.get_id())
        self.address = next(str(a) for a in host.get_addrs())
        self.ends: list[str] = []
        self.ended = trio.Event()
        handlers: dict[str, Callable[[Any], Awaitable[None]]] = {
            ECHO: self._echo,
            DIGEST: self._digest,
            RESET: self._reset,
            HOLD: self._hold,
        }
        for protocol, handler in handlers.items():
            host.set_stream_handler(protocol, handler)

    async def _echo(self, stream: Any) -> None:
        async for data in parts(stream):
            await stream.write(data)
        await stream.close()

    async def _digest(self, stream: Any) -> None:
        digest, size = hashlib.sha256(), 0
        async for data in parts(stream):
            digest.update(data)
            size += len(data)
        await stream.write(json.dumps({"size": size, "sha256": digest.hexdigest()}).encode())
        await stream.close()

    async def _reset(self, stream: Any) -> None:
        await stream.read(1)
        await stream.reset()

    async def _hold(self, stream: Any) -> None:
        await stream.write(b"\0")
        try:
            async for _ in parts(stream):
                pass
            self.ends.append("end")
        except StreamError as error:
            self.ends.append(type(error).__name__)
        self.ended.set()


async def parts(stream: Any) -> AsyncIterator[bytes]:
    with suppress(StreamEOF):
        while data := await stream.read(1 << 16):
            yield data


@asynccontextmanager
async def connected(security: str, dialler: str) -> AsyncIterator[tuple[Network, OurSide, Stock, Any]]:
    """Our network, our side, the stock host and our peer ID as the host knows it."""
    keys = create_new_key_pair()
    sec = {"/tls/1.0.0": TLSTransport(keys)} if security == "tls" else None  # None: all it has, Noise first
    host = new_host(key_pair=keys, sec_opt=sec, muxer_preference="YAMUX")
    with trio.fail_after(100):
        async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]), network(1) as net:
            ours, stock = OurSide(net), Stock(host)
            info = info_from_p2p_addr(Multiaddr(net.addresses()[0]))
            if dialler == "us":
                assert await net.connect(stock.address) == stock.peer_id
            else:
                await host.connect(info)
            (peer,) = net.peers()
            assert (peer.security, peer.muxer) == (SECURITIES[security], "/yamux/1.0.0")
            yield net, ours, stock, info.peer_id
            await net.disconnect(stock.peer_id)


@each_security
@each_direction
async def test_each_side_is_identified_and_pinged_by_the_other(security: str, dialler: str) -> None:
    async with connected(security, dialler) as (net, _, stock, us):
        await identified(net, stock.peer_id)
        assert "py-libp2p" in net.peers()[0].agent
        assert ECHO in net.protocols_of(stock.peer_id)
        async with await net.open_stream(stock.peer_id, [ping.PROTOCOL]) as stream:
            assert await ping.measure(stream) < 5
        assert len(await PingService(stock.host).ping(us, 2)) == 2


@each_security
@each_direction
async def test_sixty_four_mebibytes_come_back_as_they_went(security: str, dialler: str) -> None:
    async with connected(security, dialler) as (net, _, stock, us):
        sent, size, received, seconds = await echoed(net, stock.peer_id, BIG)
        assert (size, received) == (BIG, sent)
        begun = trio.current_time()
        stream = await stock.host.new_stream(us, [ECHO])
        pattern, digest, back, size = os.urandom(1 << 16), hashlib.sha256(), hashlib.sha256(), 0

        async def push() -> None:
            for _ in range(BIG >> 16):
                digest.update(pattern)
                await stream.write(pattern)
            await stream.close_write()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(push)
            async for data in parts(stream):
                back.update(data)
                size += len(data)
        assert (size, back.digest()) == (BIG, digest.digest())
        print(
            f"64 MiB echoed, {security}, {dialler} dialled: asked by us {seconds:.1f} s, by py-libp2p "
            f"{trio.current_time() - begun:.1f} s"
        )


@each_security
@each_direction
async def test_a_half_that_is_closed_leaves_the_other_open(security: str, dialler: str) -> None:
    async with connected(security, dialler) as (net, _, stock, us):
        assert await asked_digest(net, stock.peer_id, TEXT) == DIGEST_OF_TEXT
        stream = await stock.host.new_stream(us, [DIGEST])
        await stream.write(TEXT)
        await stream.close_write()
        assert json.loads(b"".join([data async for data in parts(stream)])) == DIGEST_OF_TEXT


@each_security
@each_direction
async def test_a_reset_arrives_as_a_reset_and_ends_nothing_else(security: str, dialler: str) -> None:
    async with connected(security, dialler) as (net, ours, stock, us):
        assert await was_reset(net, stock.peer_id)
        stream = await stock.host.new_stream(us, [RESET])
        await stream.write(b"\0")
        with pytest.raises(StreamError):
            while await stream.read(1):
                pass
        stream = await stock.host.new_stream(us, [HOLD])
        assert await stream.read(1) == b"\0"
        await stream.reset()
        await ours.ended.wait()
        assert ours.ends == ["reset"]
        await held_and_reset(net, stock.peer_id)
        await stock.ended.wait()
        assert stock.ends in (["StreamReset"], ["end"])  # it forgets the stream, and a reader under way is told EOF
        assert await asked_digest(net, stock.peer_id, TEXT) == DIGEST_OF_TEXT  # the connection lives
