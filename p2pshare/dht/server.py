"""Answers to other nodes' questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio

from p2pshare.dht.addresses import Addresses
from p2pshare.dht.framing import MessageReader
from p2pshare.dht.records import Records
from p2pshare.net.api import Network, Stream
from p2pshare_protocols import kad_messages, peerid
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.kad_keys import K, key_of
from p2pshare_protocols.kad_messages import Connection, Kind, Message, Peer
from p2pshare_protocols.kad_table import RoutingTable

STREAMS_PER_PEER = 2
IDLE = 60.0
SEND_LIMIT = 30.0
QUESTIONS_A_SECOND = 100
"""Of one stream. A question costs about 0.3 ms; thirty provides a second are three times as many questions."""


AT_ONCE = 64
"""Questions of one stream that are answered in one turn, if they are there already."""
CHANGES = (Kind.ADD_PROVIDER, Kind.PUT_VALUE)
MAX_WRITE = 64 * 1024
KNOWN_FOR = 2.0
"""Seconds for which what is told of a node is remembered: each answer names the same twenty."""
MAX_KNOWN = 1024


class Server:
    """Serves one network from its routing table and the provider records.

    `blame` hears of each peer whose question breaks the rules; its stream is reset.
    """

    def __init__(
        self,
        net: Network,
        table: RoutingTable,
        records: Records,
        addresses: Addresses,
        *,
        blame: Callable[[str], None] = lambda peer_id: None,
    ) -> None:
        self._net = net
        self._table = table
        self._records = records
        self._addresses = addresses
        self._blame = blame
        self._streams: Counter[str] = Counter()
        self._known: dict[tuple[str, bool], Peer] = {}
        self._known_until = float("-inf")

    async def handle(self, stream: Stream) -> None:
        """One inbound stream, to its end. A third one of the same peer is reset."""
        if self._streams[stream.peer_id] >= STREAMS_PER_PEER:
            await stream.reset()
            return
        self._streams[stream.peer_id] += 1
        try:
            await self._converse(stream)
        except RemoteProtocolError:
            self._blame(stream.peer_id)
            await stream.reset()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.reset()
        finally:
            self._streams[stream.peer_id] -= 1
            if not self._streams[stream.peer_id]:
                del self._streams[stream.peer_id]

    async def _converse(self, stream: Stream) -> None:
        reader = MessageReader(stream)
        second, room, sending = trio.current_time(), QUESTIONS_A_SECOND, False
        with trio.CancelScope(deadline=second + IDLE) as scope:  # one for all questions: a new one is dear
            while (message := await reader.next()) is not None:
                if not room:
                    await trio.sleep_until(second + 1)
                    second, room = trio.current_time(), QUESTIONS_A_SECOND
                scope.deadline, sending = trio.current_time() + SEND_LIMIT, True
                room -= await self._answer_all(stream, reader, message, min(room, AT_ONCE))
                scope.deadline, sending = trio.current_time() + IDLE, False
        if scope.cancelled_caught and sending:
            await stream.reset()
        else:
            await stream.aclose()

    async def _answer_all(self, stream: Stream, reader: MessageReader, message: Message, most: int) -> int:
        """Answer `message` and up to `most` - 1 that arrived with it in few writes; returns how many."""
        questions, broken = [message], None
        try:
            while len(questions) < most and (further := reader.ready()) is not None:
                questions.append(further)
        except RemoteProtocolError as error:
            broken = error
        answers: list[bytes] = []
        with self._records.together(sum(question.kind in CHANGES for question in questions)):
            for question in questions:
                try:
                    answer = self.answer(stream.peer_id, question)
                except RemoteProtocolError as error:
                    broken = error
                    break
                if answer is not None:
                    answers.append(kad_messages.frame(answer))
        while answers:
            taken = 1
            size = len(answers[0])
            while taken < len(answers) and (size := size + len(answers[taken])) <= MAX_WRITE:
                taken += 1
            await stream.send_all(b"".join(answers[:taken]))
            del answers[:taken]
        if broken is not None:
            raise broken
        return len(questions)

    def answer(self, asker: str, message: Message) -> Message | None:
        """The answer, None where there is none. Raises RemoteProtocolError for what is not allowed."""
        if message.kind is Kind.PING:
            return Message(Kind.PING)
        if not message.key:
            raise RemoteProtocolError("a DHT question without a key")
        if message.kind is Kind.PUT_VALUE:
            self._records.keep_value(message, self._addresses.subnets(asker))
            return Message(Kind.PUT_VALUE, key=message.key, record=message.record)
        if message.kind is Kind.ADD_PROVIDER:
            self._keep(asker, message)
            return None
        private = self._addresses.shares_network(asker)
        providers: tuple[Peer, ...] = ()
        if message.kind is Kind.GET_PROVIDERS:
            told = self._records.tell(message.key, asker)
            providers = tuple(self._peer(peer_id, stored, private) for peer_id, stored in told)
        record = self._records.value(message.key) if message.kind is Kind.GET_VALUE else None
        closer = self._closer(asker, message, private)
        return Message(message.kind, key=message.key, record=record, closer=closer, providers=providers)

    def _keep(self, asker: str, message: Message) -> None:
        """Only what a peer says of itself is kept."""
        private = self._addresses.shares_network(asker)
        for peer in message.providers:
            if peer.peer_id == asker:
                usable = self._addresses.usable(peer.addresses, private=private)
                self._records.add(message.key, asker, usable, subnets=self._addresses.subnets(asker))
                return

    def _closer(self, asker: str, message: Message, private: bool) -> tuple[Peer, ...]:
        nearest = [c for c in self._table.closest(key_of(message.key), K + 1) if c.peer_id != asker]
        peers = {contact.peer_id: contact.addresses for contact in nearest[:K]}
        if message.kind is Kind.FIND_NODE and (sought := self._sought(asker, message.key)):
            peers = {sought: peers.get(sought, ()), **peers}
        now = trio.current_time()
        if now >= self._known_until or len(self._known) > MAX_KNOWN:
            self._known, self._known_until = {}, now + KNOWN_FOR
        return tuple(self._node(peer_id, stored, private) for peer_id, stored in list(peers.items())[:K])

    def _node(self, peer_id: str, stored: tuple[str, ...], private: bool) -> Peer:
        known = self._known.get((peer_id, private))
        if known is None:
            known = self._known[peer_id, private] = self._peer(peer_id, stored, private)
        return known

    def _sought(self, asker: str, key: bytes) -> str | None:
        """The peer that is looked for, when we know where it is; it need not be a server."""
        try:
            peer_id = peerid.peer_id_from_bytes(key)
        except RemoteProtocolError:
            return None
        return peer_id if peer_id != asker and self._net.addresses_of(peer_id) else None

    def _peer(self, peer_id: str, stored: tuple[str, ...] | list[str], private: bool) -> Peer:
        if peer_id == self._net.peer_id:
            return Peer(peer_id, self._addresses.own(private=private), Connection.CONNECTED)
        connected = Connection.CONNECTED if self._net.is_connected(peer_id) else Connection.NOT_CONNECTED
        return Peer(peer_id, self._addresses.known(peer_id, stored, private=private), connected)
