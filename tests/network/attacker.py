"""What every attack has: where it goes, how it connects, and how it says that it stands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from p2pshare.errors import RemoteError
from p2pshare.net.own import own_muxers, own_sessions
from p2pshare.net.upgrade import Upgraded, Upgrader
from p2pshare_protocols import multiaddr
from p2pshare_protocols.multistream import encode
from tests.network.victim import FLOODS
from tests.support_net import key_pair

GREETING = encode("/multistream/1.0.0")
BAD_NAMES = (b"\x03\xff\xfe\n", GREETING + b"\x03\xff\xfe\n", GREETING + b"\x05/\xc3\x28\xed\n")
LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, RemoteError, trio.EndOfChannel)
_MUXERS = own_muxers()


class Attack:
    """What every attack is given."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        plain, peer = multiaddr.split_peer(address)
        assert peer is not None
        parts = plain.split("/")
        self.host, self.port, self.peer = parts[2], int(parts[4]), peer
        self.count: int = options.get("count", 1)
        self.source: str = options.get("source", "127.0.0.1")
        self.seconds: float = options.get("seconds", 1.0)
        self.protocol: str = options.get("protocol", FLOODS)
        self.kept: list[trio.abc.AsyncResource] = []

    async def bare(self, source: str | None = None) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.host, self.port, local_address=source or self.source)

    async def secured(self, number: int = 2) -> Upgraded:
        upgrader = Upgrader(own_sessions(key_pair(number)), _MUXERS)
        return await upgrader.outbound(await self.bare(), self.peer)

    @asynccontextmanager
    async def muxed(self, number: int = 2) -> AsyncIterator[Upgraded]:
        upgraded = await self.secured(number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upgraded.muxer.run)
            try:
                yield upgraded
            finally:
                await upgraded.muxer.aclose()
                nursery.cancel_scope.cancel()


def ready(**told: object) -> None:
    print(json.dumps({"ready": told}), flush=True)
