"""Looking for sources, all ways at one time: given addresses, connected peers, the DHT. It does not stop looking."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Final

import trio

from p2pshare.dht.api import DHT
from p2pshare.errors import P2PShareError
from p2pshare.exchange.swarm import BACKOFF, Swarm
from p2pshare.net.api import Network
from p2pshare_protocols.cid import CID
from p2pshare_protocols.exchange_messages import PROTOCOL

MAX_ADDRESSES: Final = 16  # of a link and of `--peer` together
MAX_CONNECTED: Final = 64  # connected peers that are asked without being known as providers
MAX_PROVIDERS: Final = 256  # from one search of the DHT
AGAIN: Final = 30.0  # seconds between two searches of the DHT while there is no source
AGAIN_WITH_SOURCES: Final = 120.0
_log = logging.getLogger(__name__)


class Finder:
    """Offers to the swarm whoever may hold `cid`."""

    def __init__(
        self, swarm: Swarm, network: Network, dht: DHT | None, cid: CID, addresses: Sequence[str] = ()
    ) -> None:
        self._swarm = swarm
        self._network = network
        self._dht = dht
        self._cid = cid
        self._addresses = list(dict.fromkeys(addresses))[:MAX_ADDRESSES]
        self._dialling = len(self._addresses)
        self.found = 0  # providers that the DHT named
        self.rounds = 0  # finished searches of the DHT
        self.searching = False
        self.again_at = 0.0

    @property
    def settled(self) -> bool:
        """Every way of looking was tried once to its end."""
        return not self._dialling and (self._dht is None or self.rounds > 0)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for address in self._addresses:
                nursery.start_soon(self._dial, address)
            nursery.start_soon(self._watch_connected)
            if self._dht is not None:
                nursery.start_soon(self._search, self._dht)

    async def _dial(self, address: str) -> None:
        """An address that was given by name is tried until it answers once; then the swarm knows the peer."""
        for failures in itertools.count():
            try:
                self._swarm.offer(await self._network.connect(address))
                return
            except P2PShareError as error:
                _log.info("could not reach %s: %s", address, error)
            finally:
                self._dialling -= not failures
            await trio.sleep(BACKOFF[min(failures, len(BACKOFF) - 1)])

    async def _watch_connected(self) -> None:
        """Peers that are connected and speak the exchange protocol are asked; it costs one small message."""
        asked = 0
        with self._network.events() as events:
            for info in self._network.peers():
                asked += self._ask_connected(info.peer_id)
            async for event in events:
                if event.what == "identified" and asked < MAX_CONNECTED:
                    asked += self._ask_connected(event.peer_id)

    def _ask_connected(self, peer_id: str) -> bool:
        speaks = PROTOCOL in self._network.protocols_of(peer_id)
        if speaks:
            self._swarm.offer(peer_id)
        return speaks

    async def _search(self, dht: DHT) -> None:
        while True:
            self.searching = True
            try:
                async with dht.find_providers(self._cid) as providers:
                    count = 0
                    async for provider in providers:
                        self._network.add_addresses(provider.peer_id, provider.addresses)
                        self._swarm.offer(provider.peer_id)
                        self.found += 1
                        count += 1
                        if count >= MAX_PROVIDERS:
                            break
            except P2PShareError as error:
                _log.info("the search for providers of %s ended early: %s", self._cid, error)
            self.searching = False
            self.rounds += 1
            pause = AGAIN_WITH_SOURCES if self._swarm.sources else AGAIN
            self.again_at = trio.current_time() + pause
            await trio.sleep(pause)
