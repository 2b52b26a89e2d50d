"""The DHT as the daemon uses it: provide, find providers, find a peer; and what it does on its own."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Literal

import trio

from p2pshare.dht.addresses import Addresses
from p2pshare.dht.api import DHT, Provider, Receipt
from p2pshare.dht.background import background
from p2pshare.dht.kad import Kad
from p2pshare.dht.lines import HARD_LIMIT
from p2pshare.dht.records import Records
from p2pshare.dht.server import Server
from p2pshare.dht.sweep import MESSAGES_A_SECOND, Sweep
from p2pshare.dht.upkeep import Upkeep
from p2pshare.dht.values import ValueSearch
from p2pshare.errors import P2PShareError
from p2pshare.net.api import Network
from p2pshare.store import Store
from p2pshare_protocols import peerid
from p2pshare_protocols.cid import CID
from p2pshare_protocols.kad_keys import Contact
from p2pshare_protocols.kad_messages import Connection, Kind, Message, Peer

Role = Literal["server", "client"]
Mode = Literal["auto", "server", "client"]

OURS = "/p2pshare/kad/1.0.0"
IPFS = "/ipfs/kad/1.0.0"
MAX_FOUND = 1000
"""Providers given out by one search."""
PROVIDES = 8
"""Provides at the same time; each has up to ten questions in flight."""
PATHS = 2
"""Disjoint paths of a store, and of a search that came back poor: 99 % is found among half colluders so."""
POOR = 3
"""A search that named fewer providers, none of whom we are connected to, goes on as disjoint paths."""


class Engine(DHT):
    """All networks as one. Made by `open_dht`."""

    def __init__(
        self,
        net: Network,
        kads: Sequence[Kad],
        records: Records,
        addresses: Addresses,
        *,
        paths: int = PATHS,
    ) -> None:
        self._net = net
        self._kads = kads
        self._records = records
        self._addresses = addresses
        self._paths = paths
        self._role: Role = "client"
        self._why = ""
        self._provides = trio.CapacityLimiter(PROVIDES)
        self._values = ValueSearch(kads, records)
        self.sweep: Sweep | None = None

    async def provide(self, cid: CID) -> Receipt:
        """Store that we hold `cid` at the nodes nearest to it, and read it back from a sample of them.

        Receipt(0, 0) at once when no node is known. Takes a lookup and two more round trips. Never raises for what
        peers do: the receipt says it.
        """
        key = cid.multihash
        receipts: list[Receipt] = []

        async def one(kad: Kad) -> None:
            receipts.append(await self._provide_on(kad, key))

        async with self._provides, trio.open_nursery() as nursery:
            for kad in self._kads:
                nursery.start_soon(one, kad)
        receipt = Receipt(sum(r.stored for r in receipts), sum(r.asked for r in receipts))
        self._records.add_own([key], self._addresses.own(private=True), found=receipt.stored > 0)
        return receipt

    async def _provide_on(self, kad: Kad, key: bytes) -> Receipt:
        if not len(kad.table):
            await trio.lowlevel.checkpoint()
            return Receipt(0, 0)
        question = Message(Kind.GET_PROVIDERS, key=key)  # names nearer nodes as FIND_NODE does, and reads back
        told: set[str] = set()
        kept: set[str] = set()

        def store(peer_id: str) -> Message:
            told.add(peer_id)
            return self._claim(peer_id, key)

        def hear(peer_id: str, answer: Message) -> bool:
            if any(peer.peer_id == self._net.peer_id for peer in answer.providers):
                kept.add(peer_id)
            return False

        async def store_at(contact: Contact) -> None:
            with suppress(P2PShareError):
                hear(contact.peer_id, await kad.ask(contact.peer_id, question, after=self._claim(contact.peer_id, key)))

        lookup = await kad.look_up(question, hear=hear, paths=self._paths, store=store)
        region = lookup.region()
        async with trio.open_nursery() as nursery:
            for contact in region:
                if contact.peer_id not in told:
                    nursery.start_soon(store_at, contact)
        return Receipt(sum(contact.peer_id in kept for contact in region), len(region))

    def _claim(self, peer_id: str, key: bytes) -> Message:
        """A question after it on the same line is answered after it was heeded."""
        private = self._addresses.shares_network(peer_id)
        own = Peer(self._net.peer_id, self._addresses.own(private=private), Connection.CONNECTED)
        return Message(Kind.ADD_PROVIDER, key=key, providers=(own,))

    def find_providers(self, cid: CID) -> AbstractAsyncContextManager[AsyncIterator[Provider]]:
        return self._find_providers(cid.multihash)

    @asynccontextmanager
    async def _find_providers(self, key: bytes) -> AsyncIterator[AsyncIterator[Provider]]:
        send, receive = trio.open_memory_channel[Provider](MAX_FOUND)
        async with background() as nursery:
            nursery.start_soon(self._search, key, send)
            with receive:
                yield receive

    async def _search(self, key: bytes, send: trio.MemorySendChannel[Provider]) -> None:
        """Our own store, then all networks at once; closes `send` at the end."""
        seen = {self._net.peer_id}

        def tell(peer_id: str, addresses: tuple[str, ...]) -> bool:
            if peer_id in seen or len(seen) > MAX_FOUND:
                return len(seen) > MAX_FOUND
            seen.add(peer_id)
            if addresses:
                self._net.add_addresses(peer_id, addresses)
            known = self._addresses.usable((*addresses, *self._net.addresses_of(peer_id)), private=True)
            try:
                send.send_nowait(Provider(peer_id, known))
            except trio.BrokenResourceError:
                return True
            return False

        def hear(informant: str, answer: Message) -> bool:
            private = self._addresses.shares_network(informant)
            enough = [tell(p.peer_id, self._addresses.usable(p.addresses, private=private)) for p in answer.providers]
            return any(enough)

        def poor() -> int:
            found = seen - {self._net.peer_id}
            return 1 if len(found) >= POOR or any(map(self._net.is_connected, found)) else self._paths

        with send:
            for peer_id, stored, _ in self._records.live(key):
                tell(peer_id, tuple(stored))
            async with trio.open_nursery() as nursery:
                for kad in self._kads:
                    question = Message(Kind.GET_PROVIDERS, key=key)
                    nursery.start_soon(partial(kad.look_up, question, hear=hear, poor=poor))

    async def find_peer(self, peer_id: str) -> tuple[str, ...]:
        """Addresses that two nodes gave, or that one gave when no other knows the peer. Raises RemoteProtocolError
        when `peer_id` is none."""
        key = peerid.peer_id_to_bytes(peer_id)
        if self._net.is_connected(peer_id):
            await trio.lowlevel.checkpoint()
            return tuple(self._net.addresses_of(peer_id))
        found: dict[str, None] = {}
        informants: set[str] = set()

        def hear(informant: str, answer: Message) -> bool:
            private = self._addresses.shares_network(informant)
            for peer in answer.closer:
                usable = self._addresses.usable(peer.addresses, private=private)
                if peer.peer_id == peer_id and usable:
                    informants.add(informant)
                    found.update(dict.fromkeys(usable))
            return len(informants) >= 2

        async with trio.open_nursery() as nursery:
            for kad in self._kads:
                nursery.start_soon(partial(kad.look_up, Message(Kind.FIND_NODE, key=key), hear=hear))
        if found:
            self._net.add_addresses(peer_id, list(found))
        return self._addresses.usable((*found, *self._net.addresses_of(peer_id)), private=True)

    async def closest(self, key: bytes, count: int) -> list[Provider]:
        kad = next((kad for kad in self._kads if kad.protocol == OURS), None)
        if kad is None or not len(kad.table):
            await trio.lowlevel.checkpoint()
            return []
        lookup = await kad.look_up(Message(Kind.FIND_NODE, key=key))
        return [
            Provider(contact.peer_id, contact.addresses or tuple(self._net.addresses_of(contact.peer_id)))
            for contact in lookup.region()[:count]
        ]

    def become(self, role: Role, why: str) -> None:
        self._why = why
        if role == self._role:
            return
        self._role = role
        for kad in self._kads:
            if role == "server":
                server = Server(self._net, kad.table, self._records, self._addresses, blame=kad.blame)
                self._net.handle(kad.protocol, server.handle)
            else:
                self._net.unhandle(kad.protocol)

    async def joined(self) -> None:
        async def one(kad: Kad) -> None:
            await kad.entered.wait()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for kad in self._kads:
                nursery.start_soon(one, kad)

    def size(self) -> float | None:
        return next((kad.size for kad in self._kads if kad.protocol == OURS), None)

    async def put_value(self, key: bytes, value: bytes) -> Receipt:
        return await self._values.put(key, value)

    async def get_value(self, key: bytes) -> bytes | None:
        return await self._values.get(key)

    def status(self) -> dict[str, object]:
        nodes = sum(len(kad.table) for kad in self._kads)
        said: dict[str, object] = {"nodes": nodes, "mode": self._role, "why": self._why}
        said["records"] = self._records.count()
        if self.sweep is not None:
            said["announce"] = self.sweep.status()
        return said


def role_for(net: Network, mode: Mode) -> tuple[Role, str]:
    """The role and why. In "auto" a server is who can be reached, or listens in a private network."""
    if mode != "auto":
        return mode, "dht.mode says so"
    if not net.addresses():
        return "client", "it listens nowhere"
    reach = net.reachability()
    return ("server" if reach.state in ("private", "direct") else "client"), reach.why


@asynccontextmanager
async def open_dht(
    net: Network,
    store: Store,
    *,
    networks: Sequence[str] = (OURS,),
    mode: Mode = "auto",
    allow_private: bool = False,
    rng: random.Random | None = None,
    wall_clock: Callable[[], float] = time.time,
    announced: Callable[[], Iterable[CID]] | None = None,
    reannounced: Callable[[CID, Receipt], None] | None = None,
    limit: float = HARD_LIMIT,
    rate: float = MESSAGES_A_SECOND,
    paths: int = PATHS,
    rejoin: bool = True,
) -> AsyncIterator[DHT]:
    """The DHT on `net`, serving and keeping itself fresh until the context is left.

    `networks` are protocol IDs. For "auto" see `role_for`; who opens the DHT calls `become` as that changes.
    `announced` gives the CIDs that are to stay findable: each is provided again every 22 h, and `reannounced`
    hears the outcome. `limit` is the time in seconds that one question may take, `rate` how many messages a second
    announcing again may send. `rejoin`: greet at the start those whom the table held last time.
    `paths`: disjoint ones of a store, and of a search that came back poor.
    """
    rng = rng or random.SystemRandom()
    addresses = Addresses(net, allow_private=allow_private)
    records = Records(store, net.peer_id, wall_clock=wall_clock, rng=rng)
    async with background() as nursery:
        kads = [
            Kad(protocol, net, addresses, nursery, allow_private=allow_private, rng=rng, limit=limit)
            for protocol in dict.fromkeys(networks)
        ]
        engine = Engine(net, kads, records, addresses, paths=paths)
        if announced is not None:
            engine.sweep = Sweep(
                kads, records, addresses, engine, announced=announced, reannounced=reannounced, rate=rate, rng=rng
            )
        upkeep = Upkeep(net, store, kads, records, engine.sweep, rejoin=rejoin)
        engine.become(*role_for(net, mode))
        await upkeep.start(nursery)
        try:
            yield engine
        finally:
            upkeep.save()
