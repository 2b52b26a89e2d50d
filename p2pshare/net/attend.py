"""What every peer may ask and is asked: identify and ping. (That a connection lives, the muxer's own pings show.)"""

from __future__ import annotations

import logging
import time

import trio

from p2pshare.errors import LocalError, RemoteError
from p2pshare.net import identify, ping
from p2pshare.net.api import Stream
from p2pshare.net.connection import Connection
from p2pshare.net.parts import Identity, Remembered
from p2pshare.net.switch import Switch
from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.peerid import ED25519, encode_public_key

_log = logging.getLogger(__name__)

ANSWER_SECONDS = 15.0
GATHER_SECONDS = 0.1  # parts register their protocols one after the other: peers are told once
_ADDRESS_SECONDS = 3600.0  # how long addresses that a peer told of itself are believed
_FAILURE = (RemoteError, RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class Attendant:
    """Serves identify and ping, and identifies every peer that is connected."""

    def __init__(self, switch: Switch, identity: Identity, agent: str, remembered: Remembered | None) -> None:
        self._switch = switch
        self._key = encode_public_key(ED25519, identity.public)
        self._agent = agent
        self._remembered = remembered
        switch.handle(identify.PROTOCOL, self._answer_identify)
        switch.handle(identify.PUSH, self._take_push)
        switch.handle(ping.PROTOCOL, ping.answer)
        switch.attend = self.attend

    async def attend(self, connection: Connection) -> None:
        """Asks the peer of a new connection who it is."""
        try:
            with trio.fail_after(ANSWER_SECONDS):
                # A peer that answers in many small packets has ten under way at first: the answers to what the
                # connection was made for come before the answers to this.
                await connection.agreed()
                async with await connection.open_stream([identify.PROTOCOL]) as stream:
                    self._learn(connection, await identify.read(stream))
        except _FAILURE as error:
            _log.debug("%s was not identified: %s", connection.peer_id, error)
        if self._switch.changed_at >= connection.since:
            await self._push(connection)  # it may have asked us before the change

    async def push_changes(self) -> None:
        """Tells connected peers when we speak more than they were told, for ever."""
        while True:
            await self._switch.changed.wait()
            await trio.sleep(GATHER_SECONDS)
            self._switch.changed = trio.Event()
            async with trio.open_nursery() as nursery:
                for connection in self._switch.connections():
                    nursery.start_soon(self._push, connection)

    async def _push(self, connection: Connection) -> None:
        if identify.PUSH not in connection.protocols:
            return
        try:
            with trio.fail_after(ANSWER_SECONDS):
                async with await connection.open_stream([identify.PUSH]) as stream:
                    await stream.send_all(self._message(connection.address))
        except _FAILURE as error:
            _log.debug("%s was not told of a change: %s", connection.peer_id, error)

    async def _answer_identify(self, stream: Stream) -> None:
        observed = next((c.address for c in self._switch.connections() if c.peer_id == stream.peer_id), None)
        await identify.answer(stream, self._message(observed))

    def _message(self, observed: str | None) -> bytes:
        return identify.encode(
            public_key=self._key,
            agent=self._agent,
            listen=self._switch.listen_addresses(),
            protocols=sorted(self._switch.handlers),
            observed=observed,
        )

    async def _take_push(self, stream: Stream) -> None:
        with trio.fail_after(ANSWER_SECONDS):
            told = await identify.read(stream)
        for connection in self._switch.connections():
            if connection.peer_id == stream.peer_id:
                self._learn(connection, told)

    def _learn(self, connection: Connection, told: identify.Identified) -> None:
        connection.agent = told.agent
        connection.protocols = told.protocols
        connection.listen_addresses = told.listen_addresses
        connection.observed = told.observed
        self._switch.add_addresses(connection.peer_id, told.listen_addresses, ttl=_ADDRESS_SECONDS)
        from_here = multiaddr.ip_of(connection.address)  # private or not: it has just reached us from there
        there = [address for address in told.listen_addresses if multiaddr.ip_of(address) == from_here]
        self._switch.trust_addresses(connection.peer_id, there, ttl=_ADDRESS_SECONDS)
        self._switch.identified(connection)
        self._remember(connection, told)

    def _remember(self, connection: Connection, told: identify.Identified) -> None:
        dialled = [connection.address] if connection.direction == "out" else []
        addresses = list(dict.fromkeys([*dialled, *told.listen_addresses]))
        if self._remembered is None or not addresses:
            return
        try:
            self._remembered.remember(connection.peer_id, addresses, time.time())
            if (kind := self._switch.kind_of(connection.peer_id)) is not None:
                self._remembered.spoke(connection.peer_id, kind.session, kind.ours, kind.learned)
        except LocalError as error:  # a full disk is no reason to lose a peer
            _log.warning("a peer could not be remembered: %s", error)
