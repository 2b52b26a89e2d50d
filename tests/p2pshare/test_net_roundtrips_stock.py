"""Requests that do not wait for an agreement, towards a stock libp2p host: the bytes arrive once and in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamError
from multiaddr import Multiaddr

from p2pshare.errors import RemoteError
from p2pshare.net.api import Network
from p2pshare.net.negotiate import Assumed
from p2pshare.net.stream import NetStream
from tests.support_net import identified, network
from tests.support_relay import Relay, exchange, silence

ECHO = "/test/stock-echo/1"


@asynccontextmanager
async def with_stock() -> AsyncIterator[tuple[Network, Any, str]]:
    """Our node, identified with a stock host that echoes."""

    async def echo(stream: Any) -> None:
        with suppress(StreamError):  # which it raises at the end; uncaught, it would end the host
            while data := await stream.read(65536):
                await stream.write(data)

    host = new_host(key_pair=create_new_key_pair((21).to_bytes(32, "big")))
    host.set_stream_handler(TProtocol(ECHO), echo)
    async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]), network(1) as net:
        peer_id = await net.connect(str(host.get_addrs()[0]))
        await identified(net, peer_id)
        yield net, host, peer_id


async def test_a_stock_host_takes_a_request_behind_the_proposal() -> None:
    async with with_stock() as (net, _, peer_id):
        payload = bytes(range(256)) * 400
        for _ in range(3):
            async with await net.open_stream(peer_id, [ECHO]) as stream:
                assert isinstance(stream, NetStream)
                assert isinstance(stream._muxed, Assumed)
                await stream.send_all(payload)
                assert await stream.receive_exactly(len(payload)) == payload


async def test_what_a_stock_host_does_not_list_is_asked_for() -> None:
    async with with_stock() as (net, _, peer_id):
        with pytest.raises(RemoteError, match="does not speak") as caught:
            await net.open_stream(peer_id, ["/test/unknown/1"])
        assert caught.value.kind == "failed"


async def test_a_stock_host_that_no_longer_speaks_what_it_listed_fails_the_first_read() -> None:
    async with with_stock() as (net, host, peer_id):
        host.remove_stream_handler(TProtocol(ECHO))
        async with await net.open_stream(peer_id, [ECHO]) as stream:
            with trio.fail_after(10), pytest.raises(RemoteError) as caught:
                await stream.receive_some(10)
            assert caught.value.kind in ("failed", "unreachable")
        assert net.is_connected(peer_id)


async def test_a_first_dial_to_a_stock_host_waits_for_four_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Session, Noise, the stream together with the muxer (it knows no early negotiation), request."""
    async with with_stock() as (_, host, peer_id):
        silence(monkeypatch)
        async with network(2) as net, trio.open_nursery() as nursery:
            relay = Relay(int(str(host.get_addrs()[0]).split("/")[4]))
            net.add_addresses(peer_id, [await relay.listen(nursery)])
            for waits in (4, 3):  # known, its session goes ahead
                await exchange(relay, net, peer_id, ECHO)
                since_the_first_word = relay.turns[relay.turns.index("dialler") :]  # its greeting comes unasked
                assert since_the_first_word.count("node") == waits
                await net.disconnect(peer_id)
                relay.turns.clear()
            nursery.cancel_scope.cancel()
