"""Values in the network: stored at the nodes nearest to their key, read from all of them, the best one counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import trio

from p2pshare.dht.api import Receipt
from p2pshare.dht.kad import Kad
from p2pshare.dht.records import Records
from p2pshare.errors import P2PShareError
from p2pshare_protocols import ipns
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.kad_messages import Kind, Message, Record


class ValueSearch:
    def __init__(self, kads: Sequence[Kad], records: Records) -> None:
        self._kads = kads
        self._records = records

    async def put(self, key: bytes, value: bytes) -> Receipt:
        """Keep it here too. A node that says the value back has stored it. Raises RemoteProtocolError."""
        message = Message(Kind.PUT_VALUE, key=key, record=Record(key, value))
        self._records.keep_value(message, ())
        kept: list[bool] = []
        for kad in self._kads:
            lookup = await kad.look_up(Message(Kind.FIND_NODE, key=key))
            async with trio.open_nursery() as nursery:
                for contact in lookup.region():
                    nursery.start_soon(self._put_at, kad, contact.peer_id, message, kept)
        return Receipt(sum(kept), len(kept))

    async def _put_at(self, kad: Kad, peer_id: str, message: Message, kept: list[bool]) -> None:
        try:
            answer = await kad.ask(peer_id, message)
        except P2PShareError:
            kept.append(False)
        else:
            kept.append(answer.record is not None and answer.record == message.record)

    async def get(self, key: bytes) -> bytes | None:
        own = self._records.value(key)
        best = None if own is None else own.value
        told: list[tuple[Kad, str, bytes | None]] = []

        def hear(kad: Kad, informant: str, answer: Message) -> bool:
            nonlocal best
            value = self._valid(key, answer)
            told.append((kad, informant, value))
            if value is not None and (best is None or ipns.better(key, value, best)):
                best = value
            return False

        async with trio.open_nursery() as nursery:
            for kad in self._kads:
                question = Message(Kind.GET_VALUE, key=key)
                nursery.start_soon(partial(kad.look_up, question, hear=partial(hear, kad)))
        if best is not None:
            await self._correct(key, best, told)
        return best

    def _valid(self, key: bytes, answer: Message) -> bytes | None:
        if answer.record is None or answer.record.key != key:
            return None
        try:
            self._records.check_value(key, answer.record.value)
        except RemoteProtocolError:
            return None
        return answer.record.value

    async def _correct(self, key: bytes, best: bytes, told: Sequence[tuple[Kad, str, bytes | None]]) -> None:
        """Those that keep an older value get the newer one."""
        message = Message(Kind.PUT_VALUE, key=key, record=Record(key, best))
        async with trio.open_nursery() as nursery:
            for kad, peer_id, value in told:
                if value is not None and ipns.better(key, best, value):
                    nursery.start_soon(self._put_at, kad, peer_id, message, [])
