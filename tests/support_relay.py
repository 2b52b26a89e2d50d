"""Two nodes with a relay between them that counts flights: which answers a dial and a request wait for."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing

from p2pshare.net import session
from p2pshare.net.api import Network, Stream
from tests.support_net import network

ECHO = "/p2pshare/test-echo/1"
PLAIN = "/test/plain/1"


class Relay:
    """Passes bytes on between a dialler and a node, and counts how often the direction turned."""

    def __init__(self, target: int) -> None:
        self.turns: list[str] = []
        self.connections = 0
        self.streams: list[Stream] = []  # of the exchanges over it
        self._target = target

    def told(self, who: str) -> None:
        if not self.turns or self.turns[-1] != who:
            self.turns.append(who)

    async def listen(self, nursery: trio.Nursery) -> str:
        """Its address, for as long as the nursery is open."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, self.serve, [listener])
        return f"/ip4/127.0.0.1/tcp/{listener.socket.getsockname()[1]}"

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with (
            stream,
            await trio.open_tcp_stream("127.0.0.1", self._target) as onward,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._pass, "dialler", stream, onward)
            nursery.start_soon(self._pass, "node", onward, stream)

    async def _pass(self, who: str, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with_errors = (trio.BrokenResourceError, trio.ClosedResourceError)
        try:
            while data := await source.receive_some():
                self.told(who)
                await trio.testing.wait_all_tasks_blocked(0.01)  # a long path: what waits for no answer leaves first
                await sink.send_all(data + _more(source))
            await sink.send_eof()
        except with_errors:
            await trio.aclose_forcefully(sink)


def _more(source: trio.SocketStream) -> bytes:
    """What has come besides, or nothing."""
    with socket.socket(fileno=os.dup(source.socket.fileno())) as plain, suppress(BlockingIOError):
        plain.setblocking(False)
        return plain.recv(1 << 20)
    return b""


async def echo(stream: Stream) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)


async def exchange(relay: Relay, net: Network, peer_id: str, *protocols: str) -> str:
    """A request and its answer. The stream stays open: its end would take a turn on the wire at some later time."""
    stream = await net.open_stream(peer_id, protocols)
    relay.streams.append(stream)
    await stream.send_all(b"asked")
    assert await stream.receive_exactly(5) == b"asked"
    return stream.protocol


@asynccontextmanager
async def relayed(**options: Any) -> AsyncIterator[tuple[Network, Network, Relay]]:
    """Node 1, opened with `options`, and node 2 behind a relay whose address node 1 is told."""
    async with network(1, **options) as one, network(2) as two, trio.open_nursery() as nursery:
        for protocol in (ECHO, PLAIN):
            two.handle(protocol, echo)
        relay = Relay(int(two.addresses()[0].split("/")[4]))
        one.add_addresses(two.peer_id, [await relay.listen(nursery)])
        yield one, two, relay
        nursery.cancel_scope.cancel()


def waits_until_answer(relay: Relay) -> int:
    """Turns from the dialler to the node and back, until the answer: one for each round trip after TCP's own."""
    return relay.turns.count("node")


def with_aes(monkeypatch: pytest.MonkeyPatch, *answers: bool) -> None:
    """Whether the first node made, the second, ... has AES instructions."""
    given = itertools.chain(answers, itertools.repeat(answers[-1]))
    monkeypatch.setattr(session, "has_aes_instructions", lambda: next(given))


def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the request under test takes turns on the wire."""

    async def nothing(self: object, connection: object) -> None:
        return

    monkeypatch.setattr("p2pshare.net.attend.Attendant.attend", nothing)
    monkeypatch.setattr("p2pshare.net.muxer_ping.Pings.keep_alive", _never_dead)


async def _never_dead(self: object) -> bool:
    await trio.sleep_forever()
    return False
