"""A stock libp2p host and ours: they ping and identify each other; what ends the stock one does not end ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from p2pshare.net import ping
from tests.support_net import identified, network, raw_connection

BAD_NAME = b"\x03\xff\xfe\n"


@asynccontextmanager
async def stock_host(number: int) -> AsyncIterator[Any]:
    host = new_host(key_pair=create_new_key_pair(number.to_bytes(32, "big")))
    async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        yield host


async def test_we_dial_a_stock_host() -> None:
    async with stock_host(7) as stock, network(1) as net:
        peer_id = await net.connect(str(stock.get_addrs()[0]))
        await identified(net, peer_id)
        [seen] = net.peers()
        assert seen.agent.startswith("py-libp2p/")
        assert (seen.security, seen.muxer) == ("/noise", "/yamux/1.0.0")
        async with await net.open_stream(peer_id, [ping.PROTOCOL]) as stream:
            assert await ping.measure(stream) < 5


async def test_a_stock_host_dials_us() -> None:
    async with stock_host(7) as stock, network(1) as net:
        us = info_from_p2p_addr(Multiaddr(net.addresses()[0]))
        await stock.connect(us)
        stream = await stock.new_stream(us.peer_id, [TProtocol(ping.PROTOCOL)])
        await stream.write(bytes(range(32)))
        assert await stream.read(32) == bytes(range(32))
        await stream.close()
        await identified(net, str(stock.get_id()))
        with trio.fail_after(5):
            identify = await stock.new_stream(us.peer_id, [TProtocol("/ipfs/id/1.0.0")])
            message = await identify.read(4096)
        assert b"test/1" in message


async def test_four_bytes_end_a_stock_host() -> None:
    """Why our stream path is our own. When this fails, libp2p has mended it."""
    with pytest.raises(BaseExceptionGroup) as caught:
        async with stock_host(7) as stock, raw_connection(2, str(stock.get_addrs()[0])) as muxer:
            stream = await muxer.open()
            await stream.send_all(BAD_NAME)
            with trio.fail_after(10), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await stream.receive_exactly(4096)
    assert caught.group_contains(UnicodeDecodeError)


async def test_four_bytes_do_not_end_ours() -> None:
    async with network(1) as net, raw_connection(2, net.addresses()[0]) as muxer:
        stream = await muxer.open()
        await stream.send_all(BAD_NAME)
        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
            await stream.receive_exactly(4096)
        async with network(3) as honest:
            await honest.connect(net.addresses()[0])
            async with await honest.open_stream(net.peer_id, [ping.PROTOCOL]) as good:
                assert await ping.measure(good) < 5
