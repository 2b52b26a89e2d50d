"""One Kademlia network: its table, its lines to other nodes, and lookups that run on them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

import trio

from p2pshare.dht.addresses import Addresses
from p2pshare.dht.lines import HARD_LIMIT, Lines
from p2pshare.dht.wrong import Wrong
from p2pshare.errors import P2PShareError, RemoteError
from p2pshare.net.api import Network
from p2pshare_protocols import kad_keys, kad_region, kad_sweep, kad_table, peerid
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.kad_keys import Contact, key_of
from p2pshare_protocols.kad_lookup import SEEDS, Lookup, Pace
from p2pshare_protocols.kad_messages import Kind, Message, Peer
from p2pshare_protocols.kad_table import RoutingTable

MAX_GREETINGS = 16
"""New peers asked at the same time whether they are nodes of the DHT."""

Answered = tuple[str, Message | None]
"""(who was asked, its answer or None)."""
Hear = Callable[[str, Message], bool]
"""(who answered, the answer) -> whether the lookup may end now."""
Store = Callable[[str], Message]
"""(who is asked) -> a message without an answer that goes before the question, in the same write."""


class _Answers:
    """What came for one lookup since it looked last; at most one for each of its questions."""

    def __init__(self) -> None:
        self._come: list[Answered] = []
        self._some = trio.Event()

    def put(self, peer_id: str, answer: Message | None) -> None:
        self._come.append((peer_id, answer))
        self._some.set()

    async def take(self) -> list[Answered]:
        await self._some.wait()
        come, self._come, self._some = self._come, [], trio.Event()
        return come


class Kad:
    """`nursery` lives as long as the DHT: a question outlives its lookup, so that the table learns who hangs."""

    def __init__(
        self,
        protocol: str,
        net: Network,
        addresses: Addresses,
        nursery: trio.Nursery,
        *,
        allow_private: bool,
        rng: random.Random,
        limit: float = HARD_LIMIT,
    ) -> None:
        self.protocol = protocol
        self.own_id = net.peer_id
        self.table = RoutingTable(kad_keys.contact(net.peer_id), private_exempt=allow_private)
        self.lines = Lines(net, protocol, nursery, limit=limit, on_wrong=self.blame)
        self.wrong = Wrong()
        self.joined = trio.Event()  # set when a peer entered near us; replaced by the one who waits for it
        self.entered = trio.Event()  # set when the first peer entered
        self._net = net
        self._addresses = addresses
        self._nursery = nursery
        self._rng = rng
        self._salt = rng.randbytes(16)
        self._pace = Pace()
        self._size = kad_region.SizeEstimate()
        self._greeting: set[str] = set()
        self._greetings = trio.CapacityLimiter(MAX_GREETINGS)

    async def ask(self, peer_id: str, message: Message, *, after: Message | None = None) -> Message:
        """One question, behind `after`, which has no answer; the table learns from the outcome. Raises RemoteError."""
        if peer_id in self.wrong:
            raise RemoteError("a DHT node broke the protocol's rules a while ago", kind="failed")
        try:
            answer = await self.lines.ask(peer_id, message, after=after)
        except P2PShareError:
            self.table.failed(peer_id, trio.current_time())
            raise
        if peer_id not in self.wrong:  # by what it said behind its answer
            self._answered(peer_id)
        return answer

    def blame(self, peer_id: str) -> None:
        """It broke the protocol's rules: it leaves the table and is not asked again for a while."""
        self.wrong.add(peer_id)
        self.table.remove(peer_id)

    def _answered(self, peer_id: str) -> None:
        fresh = peer_id not in self.table
        contact = kad_keys.contact(peer_id, self._net.addresses_of(peer_id))
        seen_at = self._addresses.seen_at(peer_id)
        if self.table.answered(contact, trio.current_time(), seen_at=seen_at) and fresh:
            self.entered.set()
            if self._is_near(contact):
                self.joined.set()

    def _is_near(self, contact: Contact) -> bool:
        """Whether it is one of the k nearest to ourselves that we know."""
        own = self.table.own.key
        return any(near.peer_id == contact.peer_id for near in self.table.closest(own))

    async def greet(self, peer_id: str) -> None:
        """Ask a peer that says it speaks our protocol for nodes near us; it enters the table if it answers."""
        if peer_id in self._greeting or peer_id in self.wrong or peer_id in self.table or peer_id == self._net.peer_id:
            return
        self._greeting.add(peer_id)
        try:
            async with self._greetings:
                await self.ask(peer_id, self._find_self())
        except P2PShareError:
            return
        finally:
            self._greeting.discard(peer_id)

    def _find_self(self) -> Message:
        return Message(Kind.FIND_NODE, key=peerid.peer_id_to_bytes(self._net.peer_id))

    @property
    def size(self) -> float | None:
        """Nodes in the network, as far as is known."""
        return self._size.size

    def assign(self, keys: Sequence[bytes], nodes: Sequence[Contact]) -> dict[str, list[bytes]]:
        """Which of `keys` each of the nodes is to keep."""
        return kad_sweep.assign(keys, nodes, self._size.size, salt=self._salt)

    async def explore(self, key: bytes) -> list[Contact]:
        """All nodes around a key, several times as many as keep it."""
        lookup = await self.look_up(Message(Kind.FIND_NODE, key=key), nearest=kad_sweep.EXPLORED)
        return lookup.found()

    async def look_up(
        self,
        question: Message,
        *,
        hear: Hear | None = None,
        paths: int = 1,
        nearest: int = 0,
        store: Store | None = None,
        poor: Callable[[], int] = lambda: 1,
    ) -> Lookup:
        """Ask the nodes nearest to `question.key`, until the region is exhausted or `hear` says that it is enough.

        With `nearest`, until so many have answered, whatever the region. With `store`, who is nearer than STORE_WITHIN
        times the region's bound gets its message at once: the record need not wait for the lookup's end. At the end
        `poor` says of how many disjoint paths it must be the end, now that is known what it brought.
        """
        target = key_of(question.key)
        bound = kad_region.bound(self._size.size)
        lookup = Lookup(
            target,
            self.table.closest(target, SEEDS),
            own_id=self._net.peer_id,
            pace=self._pace,
            paths=paths,
            k=nearest or kad_keys.K,
            bound=0 if nearest else bound,
            salt=self._salt,
        )
        answers = _Answers()
        while True:
            now = trio.current_time()
            for contact in lookup.next_queries(now):
                near = store is not None and contact.key ^ target < kad_region.STORE_WITHIN * bound
                after = store(contact.peer_id) if store is not None and near else None
                self._nursery.start_soon(self._query, contact, question, after, answers)
            deadline = lookup.next_deadline()
            if deadline is None or lookup.done:
                lookup.widen(poor())
                if lookup.done:
                    break
                continue
            come: list[Answered] = []
            with trio.move_on_at(deadline):
                come = await answers.take()  # all that came meanwhile: the window is worked out once for all of it
            if any(self._advance(lookup, peer_id, answer, hear) for peer_id, answer in come):
                return lookup
        self.table.looked_up(target, trio.current_time())
        self._size.add(target, [contact.key ^ target for contact in lookup.found(kad_keys.K)])
        return lookup

    async def _query(self, contact: Contact, question: Message, after: Message | None, answers: _Answers) -> None:
        if contact.addresses and contact.peer_id not in self.lines:
            self._net.add_addresses(contact.peer_id, contact.addresses)
        answer: Message | None = None
        try:
            answer = await self.ask(contact.peer_id, question, after=after)
        except P2PShareError:
            answer = None
        answers.put(contact.peer_id, answer)

    def _advance(self, lookup: Lookup, peer_id: str, answer: Message | None, hear: Hear | None) -> bool:
        now = trio.current_time()
        if answer is None:
            lookup.on_failure(peer_id, now)
            return False
        private = self._addresses.shares_network(peer_id)
        named = (lookup.known(peer.peer_id) or self._contact(peer, private) for peer in answer.closer)
        lookup.on_reply(peer_id, [contact for contact in named if contact is not None], now)
        return hear is not None and hear(peer_id, answer)

    def _contact(self, peer: Peer, private: bool) -> Contact | None:
        """A peer that was named, if there is a way to reach it and it did not break the rules."""
        addresses = self._addresses.usable(peer.addresses, private=private)
        if peer.peer_id in self.wrong or not (addresses or self._net.addresses_of(peer.peer_id)):
            return None
        return kad_keys.contact(peer.peer_id, addresses)

    async def find_self(self) -> None:
        await self.look_up(self._find_self())

    async def refresh(self) -> None:
        """Ask those that were silent while others wait, and look into buckets where nobody looked for an hour."""
        now = trio.current_time()
        for contact in self.table.to_check(now):
            await self.ping(contact.peer_id)
        stale = self.table.stale(now)
        for number in stale:
            if number <= 14:
                name = kad_keys.name_near(self.table.own.key, number, self._rng.randbytes(32))
                await self.look_up(Message(Kind.FIND_NODE, key=name))
        if any(number > 14 for number in stale) or self.table.depth == 1:
            await self.find_self()

    async def ping(self, peer_id: str) -> bool:
        try:
            await self.ask(peer_id, Message(Kind.PING))
        except P2PShareError:
            return False
        return True

    def save(self) -> str:
        return json.dumps(self.table.save())

    async def rejoin(self, saved: str | None) -> None:
        """Greet those whom the table held last time."""
        for peer_id, addresses in kad_table.restore(_rows(saved)):
            try:
                peerid.check_peer_id(peer_id)
            except RemoteProtocolError:
                continue
            self._net.add_addresses(peer_id, addresses)
            self._nursery.start_soon(self.greet, peer_id)


def _rows(saved: str | None) -> list[tuple[str, list[str]]]:
    try:
        rows = json.loads(saved or "[]")
        return [(str(peer_id), list(map(str, addresses))) for peer_id, addresses in rows]
    except (ValueError, TypeError):
        return []  # ours, but not worth failing for: the table fills again
