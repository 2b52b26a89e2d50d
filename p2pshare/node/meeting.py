"""Meeting other nodes in the public IPFS DHT, visited now and then; specified in protocols/rendezvous.md.

A visit opens that DHT as a client, at the peers that it had last time, else at the configured ones. Between visits
nothing is sent there.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import trio

from p2pshare.dht import DHT, Provider
from p2pshare.dht.engine import IPFS, OURS
from p2pshare.errors import P2PShareError
from p2pshare.net.api import Network
from p2pshare.net.dnsaddr import resolve
from p2pshare_protocols.rendezvous import PLACE

_log = logging.getLogger(__name__)

ENOUGH = 8  # servers of our own DHT that are connected: more are found through it
MAX_FOUND = 1000  # providers looked at in one visit; strangers can name any number
MAX_DIALS = 64
AT_ONCE = 8
DIAL_SECONDS = 10.0
SEARCH_SECONDS = 60.0
CHECK_SECONDS = 300.0  # how often one that met others looks whether it has lost them
RENEW_SECONDS = 20 * 3600.0  # of the 22 h after which a provider repeats itself (kad.md)

Resolve = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[str]]]]
"""Addresses by peer ID, of configured multiaddrs."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. first: until the first visit, in which other ways may find peers. rejoin: that the peers of the last
    visit get before the configured ones are asked. join: to get in at all. soonest, latest: between two visits."""

    first: float = 5.0
    rejoin: float = 3.0
    join: float = 60.0
    soonest: float = 60.0
    latest: float = 6 * 3600.0


class Meeting:
    """`open_public` opens the public DHT as a client; `serves` says whether others can look us up and reach us,
    `note` hears of each visit: {"event": "visited", "listed", "known"}."""

    def __init__(
        self,
        network: Network,
        open_public: Callable[[], AbstractAsyncContextManager[DHT]],
        *,
        bootstrap: Sequence[str],
        serves: Callable[[], bool],
        rng: random.Random,
        note: Callable[[dict[str, Any]], object] = lambda event: None,
        resolve: Resolve = resolve,
        times: Times | None = None,
    ) -> None:
        self._network = network
        self._open_public = open_public
        self._bootstrap = bootstrap
        self._serves = serves
        self._rng = rng
        self._note = note
        self._resolve = resolve
        self._times = times or Times()
        self._renew_at = float("-inf")  # trio clock
        self._awake = trio.Event()
        self._met: set[str] = set()  # spoke our protocol; identify may not have said so yet
        self._dialled = 0
        self._visits = 0

    def wake(self) -> None:
        """Others can reach us now: let them know before the next visit is due."""
        self._awake.set()

    def status(self) -> dict[str, object]:
        return {"visits": self._visits, "dialled": self._dialled, "provided": self._renew_at > trio.current_time()}

    async def run(self) -> None:
        """Visits, for ever."""
        await trio.sleep(self._times.first)
        lonely = self._times.soonest
        while True:
            await self.visit()
            if self._known() and not self._is_due():
                lonely = self._times.soonest
                await self._rest(self._times.latest, while_known=True)
            else:
                await self._rest(lonely, while_known=False)
                lonely = min(2 * lonely, self._times.latest)

    async def _rest(self, pause: float, *, while_known: bool) -> None:
        """Until the next visit: less than `pause` when we are woken, must renew, or have lost the last peer."""
        until = trio.current_time() + min(pause * self._rng.uniform(0.75, 1.25), self._until_renewal())
        while (left := until - trio.current_time()) > 0 and not self._awake.is_set():
            with trio.move_on_after(min(left, CHECK_SECONDS)):
                await self._awake.wait()
            if while_known and not self._known():
                break
        self._awake = trio.Event()

    async def visit(self) -> None:
        """Say that we are there when that is due, and look for others when we know few."""
        if self._known() >= ENOUGH and not self._is_due():
            await trio.lowlevel.checkpoint()
            return
        self._visits += 1
        async with self._open_public() as public:
            if not await self._enter(public):
                _log.info("the public IPFS DHT cannot be reached")
                return
            if self._is_due():
                receipt = await public.provide(PLACE)
                if receipt.stored:
                    self._renew_at = trio.current_time() + RENEW_SECONDS
            if self._known() < ENOUGH:
                await self._find(public)
        self._note({"event": "visited", "listed": self._renew_at > trio.current_time(), "known": self._known()})

    def _is_due(self) -> bool:
        return self._serves() and trio.current_time() >= self._renew_at

    def _until_renewal(self) -> float:
        """A client, and one whose record was not kept, has nothing to renew."""
        left = self._renew_at - trio.current_time()
        return left if self._serves() and left > 0 else float("inf")

    def _known(self) -> int:
        """Servers of our own DHT that are connected."""
        connected = [peer.peer_id for peer in self._network.peers()]
        self._met.intersection_update(connected)
        return sum(peer in self._met or OURS in self._network.protocols_of(peer) for peer in connected)

    async def _enter(self, public: DHT) -> bool:
        entered = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._dial_bootstrap)
            with trio.move_on_after(self._times.join):
                await public.joined()
                entered = True
            nursery.cancel_scope.cancel()
        return entered

    async def _dial_bootstrap(self) -> None:
        await trio.sleep(self._times.rejoin)
        found = await self._resolve(self._bootstrap)
        async with trio.open_nursery() as nursery:
            for peer_id, addresses in found.items():
                self._network.add_addresses(peer_id, addresses)
                nursery.start_soon(self._speaks, peer_id, IPFS)

    async def _find(self, public: DHT) -> None:
        found: list[Provider] = []
        with trio.move_on_after(SEARCH_SECONDS):
            async with public.find_providers(PLACE) as providers:
                async for provider in providers:
                    found.append(provider)
                    if len(found) >= MAX_FOUND:
                        break
        self._rng.shuffle(found)
        waiting = [provider.peer_id for provider in found if not self._network.is_connected(provider.peer_id)]
        del waiting[MAX_DIALS:]
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._dial, waiting)

    async def _dial(self, waiting: list[str]) -> None:
        """Takes one after the other until enough are known."""
        while waiting and self._known() < ENOUGH:
            peer_id = waiting.pop()
            self._dialled += 1
            if await self._speaks(peer_id, OURS):
                self._met.add(peer_id)
            else:
                await self._network.disconnect(peer_id)

    async def _speaks(self, peer_id: str, protocol: str) -> bool:
        try:
            stream = await self._network.open_stream(peer_id, [protocol], timeout=DIAL_SECONDS)
            await stream.aclose()
        except (P2PShareError, trio.BrokenResourceError) as error:
            _log.debug("%s is none to meet: %s", peer_id, error)
            return False
        return True
