"""Who really has it now: the providers that the DHT names for the best rows are asked, briefly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from p2pshare.dht.api import DHT, Provider
from p2pshare.errors import P2PShareError
from p2pshare.index.tiers import Answers
from p2pshare.net.api import Network
from p2pshare_protocols import exchange_messages as exchange
from p2pshare_protocols.cid import CID
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.index_messages import Row

ROWS: Final = 10  # of a search, the best
PROVIDERS: Final = 4  # of a row
TIME: Final = 2.5  # seconds for all of it
_PEER_TIME: Final = 1.5  # seconds for one provider
_AT_ONCE: Final = 16


class Probe:
    def __init__(self, net: Network, dht: DHT) -> None:
        self._net = net
        self._dht = dht

    async def top(self, rows: Sequence[Row], answers: Answers) -> None:
        """Tell `answers` of each provider of the first rows that says it holds something of them. At most 2.5 s."""
        limiter = trio.CapacityLimiter(_AT_ONCE)
        with trio.move_on_after(TIME):
            async with trio.open_nursery() as nursery:
                for row in rows[:ROWS]:
                    nursery.start_soon(self._row, row, answers, limiter)

    async def _row(self, row: Row, answers: Answers, limiter: trio.CapacityLimiter) -> None:
        root = row.root or row.cid
        async with trio.open_nursery() as nursery, self._dht.find_providers(root) as providers:
            count = 0
            async for provider in providers:
                nursery.start_soon(self._provider, row, root, provider, answers, limiter)
                count += 1
                if count >= PROVIDERS:
                    break

    async def _provider(
        self, row: Row, root: CID, provider: Provider, answers: Answers, limiter: trio.CapacityLimiter
    ) -> None:
        async with limiter:
            if await self._holds(provider.peer_id, root):
                await answers.tell(row, provider.peer_id, provider.addresses)

    async def _holds(self, peer_id: str, root: CID) -> bool:
        try:
            with trio.fail_after(_PEER_TIME):
                async with await self._net.open_stream(peer_id, [exchange.PROTOCOL], timeout=_PEER_TIME) as stream:
                    await stream.send_all(exchange.encode(exchange.Have(1, root.v1.binary)))
                    length = exchange.header_length(await stream.receive_exactly(4))
                    answer = exchange.decode(await stream.receive_exactly(length))
                    return isinstance(answer, exchange.Held) and answer.holding is not exchange.Holding.NOTHING
        except (P2PShareError, RemoteProtocolError, trio.BrokenResourceError, trio.TooSlowError):
            return False
