"""The places to ask: the own catalogue and the connected peers. The DHT, a third one, is in `dht_tier`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

import trio

from p2pshare.errors import RemoteError
from p2pshare.index.client import IndexClient
from p2pshare.index.rows import Run, in_threads, rows_of
from p2pshare.net.api import Network
from p2pshare.store import Store
from p2pshare_protocols import multiaddr
from p2pshare_protocols.index_messages import PROTOCOL, Row
from p2pshare_protocols.postings_room import subnets
from p2pshare_protocols.query import Query

_PEERS_AT_ONCE: Final = 32
_OWN_SEARCHES: Final = 8  # at once, in worker threads

TierName = Literal["local", "peer", "dht"]


class Question(NamedTuple):
    """`limit`: rows wanted of each node; `timeout`: seconds for all of it; `everything`: look further than usual."""

    query: Query
    limit: int
    timeout: float
    everything: bool = False


class Hit(NamedTuple):
    """One row that matches, and the peer that says it holds it; "" when a publisher says that it exists.

    `subnet` is the one that the holder is in, a /24 or /48; "" when not known or private.
    """

    row: Row
    holder: str
    tier: TierName
    subnet: str = ""


@dataclass(slots=True)
class Answers:
    """Where a tier puts what it finds. Of `asked` nodes `nodes` answered; `complete` while nothing is known to be
    left out; `ended` when the tier did all that it does."""

    tier: TierName
    hits: trio.MemorySendChannel[Hit]
    nodes: int = 0
    complete: bool = True
    asked: int = 0
    ended: bool = False

    async def tell(self, row: Row, holder: str, addresses: Sequence[str] = ()) -> None:
        """A row, and who holds it ("" while that is not known), at which multiaddrs. Waits while the searcher is
        slow."""
        await self.hits.send(Hit(row, holder, self.tier, _subnet(addresses)))

    def missing(self) -> list[str]:
        """What is not in the results, in half sentences; [] when nothing is."""
        if self.complete and self.ended:
            return []
        silent = self.asked - self.nodes
        if silent > 0:
            noun = "node" if self.tier == "dht" else "peer"
            return [f"{self.tier}: {silent} of {self.asked} {noun}{'s' * (self.asked > 1)} did not answer"]
        if not self.ended:
            return [f"{self.tier}: the time was over before all was asked"]
        return [f"{self.tier}: more matches than were told"]


def _subnet(addresses: Sequence[str]) -> str:
    """Of the first address that says one."""
    return next(filter(None, (subnets(str(multiaddr.ip_of(one)))[0] for one in addresses)), "")


class Tier(Protocol):
    """A place to ask. Rows are checked and cleaned by the tier; what peers do wrong is not an error of the search."""

    @property
    def name(self) -> TierName: ...

    async def ask(self, question: Question, answers: Answers) -> None:
        """Tell `answers` everything, then return. Cancelled when the time is over. Raises LocalError only."""


class CatalogueTier:
    """Our own items and the files inside them."""

    name: TierName = "local"

    def __init__(self, store: Store, peer_id: str, *, run: Run | None = None) -> None:
        self._store = store
        self._peer_id = peer_id
        self._run = in_threads(_OWN_SEARCHES) if run is None else run

    async def ask(self, question: Question, answers: Answers) -> None:
        query, limit, *_ = question
        answers.asked += 1
        found = await rows_of(self._store, query, limit, peer_id=self._peer_id, for_strangers=False, run=self._run)
        answers.nodes += 1
        answers.complete &= found.complete
        for row in found.rows:
            await answers.tell(row, self._peer_id)


class PeerTier:
    """The connected peers that speak /p2pshare/index/1.0.0, at most 32 at once."""

    name: TierName = "peer"

    def __init__(self, net: Network) -> None:
        self._net = net
        self._client = IndexClient(net)

    async def ask(self, question: Question, answers: Answers) -> None:
        peers = self._speakers()
        addresses = {info.peer_id: info.address for info in self._net.peers()}
        answers.asked += len(peers)
        if len(peers) > _PEERS_AT_ONCE:
            # Not all fit at once: hung ones must not keep the others from being asked at all.
            question = question._replace(timeout=question.timeout / 2)
        places = trio.CapacityLimiter(_PEERS_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for peer_id in peers:
                nursery.start_soon(self._ask_one, peer_id, addresses.get(peer_id, ""), question, answers, places)

    def _speakers(self) -> list[str]:
        """Connected peers that speak the protocol; one that is not identified yet may."""
        peers = dict.fromkeys(info.peer_id for info in self._net.peers())
        spoken = {peer_id: self._net.protocols_of(peer_id) for peer_id in peers}
        return [peer_id for peer_id, protocols in spoken.items() if PROTOCOL in protocols or not protocols]

    async def _ask_one(
        self, peer_id: str, address: str, question: Question, answers: Answers, places: trio.CapacityLimiter
    ) -> None:
        async def tell(row: Row) -> None:
            await answers.tell(row, peer_id, [address])

        query, limit, timeout, _ = question
        async with places:
            try:
                complete = await self._client.ask(peer_id, query, tell, limit=limit, timeout=timeout)
            except RemoteError:
                # A peer that turns out not to speak the protocol has nothing to leave out.
                speaks = PROTOCOL in self._net.protocols_of(peer_id)
                answers.complete &= not speaks
                answers.asked -= not speaks
                return
        answers.nodes += 1
        answers.complete &= complete
