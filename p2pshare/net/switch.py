"""The switch: accepts, dials, keeps the table of connections, and gives streams. The Network of the daemon."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import trio

from p2pshare.errors import RemoteError, TimedOut, Unreachable, UsageError
from p2pshare.net import descriptors, tcp
from p2pshare.net.addresses import IP, advertised, from_socket, interface_ips, ip_of_socket
from p2pshare.net.api import Network, PeerEvent, PeerInfo, Reachability, Stream, StreamHandler
from p2pshare.net.book import AddressBook
from p2pshare.net.complaints import Complaints
from p2pshare.net.connection import Connection
from p2pshare.net.dialer import Dialer, Dialled, dial_tcp
from p2pshare.net.events import PeerEvents
from p2pshare.net.guard import HalfOpen, HalfOpenTable, StreamRoom
from p2pshare.net.handshake_share import HandshakeShare
from p2pshare.net.kinds import Kind
from p2pshare.net.parts import Limits
from p2pshare.net.rates import Rates
from p2pshare.net.reach import Reach
from p2pshare.net.table import ConnectionTable
from p2pshare.net.upgrade import Upgraded, Upgrader
from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError

_log = logging.getLogger(__name__)
OWN_PREFIX = "/p2pshare/"  # of protocols that only our own nodes speak
_OPEN_TRIES = 3
_INTERFACE_SECONDS = 5.0  # for which the addresses of the interfaces are believed; reading them costs 0.4 ms
_TRIM_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0  # for all connections together

Attend = Callable[[Connection], Awaitable[None]]


class Switch(Network):
    """`attend` runs beside every connection (identify, keep-alive). serve() must run while it is used."""

    def __init__(
        self,
        peer_id: str,
        *,
        upgrader: Upgrader,
        bound: Sequence[tuple[IP, int]],
        limits: Limits,
        allow_private: bool,
        nursery: trio.Nursery,
    ) -> None:
        self.peer_id = peer_id
        self.handlers: dict[str, StreamHandler] = {}
        self.attend: Attend | None = None
        self.changed = trio.Event()  # what identify tells of us is not what it told before; who tells it renews this
        self.changed_at = trio.current_time()
        self.rates = Rates()
        self.inbound_from_public = False
        self._reach = Reach()
        self._upgrader = upgrader
        self._bound = bound
        self._limits = limits
        self._allow_private = allow_private
        self._nursery = nursery
        self._interfaces: list[IP] = []
        self._looked_at = -math.inf
        self._events = PeerEvents()
        self._book = AddressBook(allow_private=allow_private)
        self._table = ConnectionTable(limits, exempt_loopback=allow_private)
        self._half_open = HalfOpenTable(limits.half_open, exempt_loopback=allow_private)
        self._share = HandshakeShare(limits.handshake_share)
        self._complaints = Complaints(_log)
        self._room = StreamRoom(limits.streams)
        self._refused_descriptors = 0
        attempt = functools.partial(dial_tcp, upgrader)
        self._dialer = Dialer(attempt, self._dialled, nursery, functools.partial(attempt, persistently=True))

    # Connections in

    def accepted(self, sock: trio.socket.SocketType, peer: tuple[str, int]) -> None:
        """Takes a socket that a listener accepted."""
        if not descriptors.spare(sock.fileno()):
            tcp.refuse(sock)
            self._refused_descriptors += 1
            self._half_open.drop_one()  # so that silent ones do not hold what there is
            return
        ip = ip_of_socket(peer[0])
        scope = trio.CancelScope(deadline=trio.current_time() + self._limits.handshake_seconds)
        entry = self._half_open.enter(ip, scope.cancel, trio.current_time())
        if entry is None:
            tcp.refuse(sock)
            return
        self._nursery.start_soon(self._inbound, sock, peer, scope, entry)

    async def _inbound(
        self, sock: trio.socket.SocketType, peer: tuple[str, int], scope: trio.CancelScope, entry: HalfOpen
    ) -> None:
        address, upgraded = "", None
        try:
            with scope:
                await trio.lowlevel.wait_readable(sock.fileno())  # who says nothing costs us no more than this
                address = from_socket(*peer)
                handshake = self._upgrader.inbound(tcp.stream_over(sock))
                upgraded = await self._share.work(entry.network, handshake)
        except (RemoteError, OSError) as error:
            _log.debug("%s: %s", address, error)
        except Exception as error:  # noqa: BLE001 - a stranger's bytes must not end the process
            self._complaints.about("a handshake with a stranger went wrong in an unknown way", error)
        finally:
            self._half_open.leave(entry)
            if upgraded is None:
                tcp.refuse(sock)
        if upgraded is not None:
            try:
                await self._enter(upgraded, address, "in")
            except RemoteError as error:
                _log.debug("%s: %s", address, error)

    async def keep_house(self) -> None:
        """Lets handshakes have their turns, and closes idle connections when there are many; for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._share.run)
            while True:
                await trio.sleep(_TRIM_SECONDS)
                for idle in self._table.trim(trio.current_time()):
                    self._let_go(idle)

    # Connections out

    async def _dialled(self, dialled: Dialled) -> None:
        await self._enter(dialled.upgraded, dialled.address, "out")

    async def _enter(self, upgraded: Upgraded, address: str, direction: Literal["in", "out"]) -> Connection:
        """Puts a connection into the table and serves it. Raises Unreachable when there is no room."""
        connection = Connection(
            upgraded,
            address=address,
            direction=direction,
            handlers=self.handlers,
            complaints=self._complaints,
            room=self._room,
        )
        welcome, leaving = self._table.room_for(connection, trio.current_time())
        if not welcome or connection.peer_id == self.peer_id:
            await upgraded.secure.abort()
            raise Unreachable("there is no room for another connection" if not welcome else "this is our own peer ID")
        for idle in leaving:
            self._let_go(idle)
        if direction == "in" and not multiaddr.is_private(address):
            self.inbound_from_public = True
        opened = trio.Event()
        self._nursery.start_soon(self._serve, connection, opened.set)
        await opened.wait()
        return connection

    def _let_go(self, idle: Connection) -> None:
        if self._table.remove(idle):
            self._events.publish(PeerEvent("disconnected", idle.peer_id))
        self._nursery.start_soon(idle.aclose)

    async def _serve(self, connection: Connection, opened: Callable[[], None]) -> None:
        if self._table.add(connection):
            self._events.publish(PeerEvent("connected", connection.peer_id))
        try:
            async with trio.open_nursery() as nursery:
                if self.attend is not None:
                    nursery.start_soon(self.attend, connection)
                await connection.run(opened=opened)
                nursery.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - a stranger's bytes must not end the process
            self._complaints.about("a connection ended in an unknown way", error)
        finally:
            self.rates.ended(connection.traffic())
            if self._table.remove(connection):
                self._events.publish(PeerEvent("disconnected", connection.peer_id))

    async def aclose(self) -> None:
        """Says goodbye to all, in a bounded time."""
        with trio.CancelScope(deadline=trio.current_time() + _GOODBYE_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for connection in self._table:
                    nursery.start_soon(connection.aclose)

    # Network

    def addresses(self) -> list[str]:
        return [f"{address}/p2p/{self.peer_id}" for address in self.listen_addresses()]

    def listen_addresses(self) -> list[str]:
        """The same without /p2p, as identify wants them."""
        now = trio.current_time()
        if now - self._looked_at >= _INTERFACE_SECONDS:  # identify asks as often as strangers like
            self._interfaces, self._looked_at = interface_ips(), now
        own = advertised(self._bound, self._interfaces, allow_private=self._allow_private)
        return list(dict.fromkeys([*own, *self._reach.confirmed]))

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        if protocol not in self.handlers:
            self._tell_changes()
        self.handlers[protocol] = handler

    def unhandle(self, protocol: str) -> None:
        if self.handlers.pop(protocol, None) is not None:
            self._tell_changes()

    def _tell_changes(self) -> None:
        self.changed_at = trio.current_time()
        self.changed.set()

    def reachability(self) -> Reachability:
        return self._reach.now

    async def reachability_changed(self, known: Reachability) -> None:
        await self._reach.changed(known)

    def set_reachability(self, found: Reachability) -> None:
        if self._reach.set(found):
            self._tell_changes()

    def confirm(self, address: str) -> None:
        """Others reach us at `address`: it is told like those of the interfaces."""
        if address not in self.listen_addresses() and self._reach.confirm(address):
            self._tell_changes()

    async def dial_aside(self, peer_id: str, address: str) -> Upgraded:
        """A connection that is in no table: the caller ends it. Raises RemoteError."""
        return await dial_tcp(self._upgrader, peer_id, address)

    async def open_stream(self, peer_id: str, protocols: Sequence[str], *, timeout: float = 10.0) -> Stream:
        if peer_id == self.peer_id:
            raise Unreachable("a node opens no streams to itself")
        try:
            with trio.fail_after(timeout):
                for _ in range(_OPEN_TRIES - 1):
                    connection = self._table.best(peer_id) or await self._dial(peer_id)
                    with contextlib.suppress(Unreachable):  # it had died unnoticed: dial anew
                        return await connection.open_stream(protocols, assume=True)
                connection = self._table.best(peer_id) or await self._dial(peer_id)
                return await connection.open_stream(protocols, assume=True)
        except trio.TooSlowError:
            raise TimedOut(f"{peer_id} did not answer in {timeout:g} s") from None

    async def open_stream_beside(self, peer_id: str, protocols: Sequence[str], *, timeout: float = 10.0) -> Stream:
        if peer_id == self.peer_id:
            raise Unreachable("a node opens no streams to itself")
        try:
            with trio.fail_after(timeout):
                dialled = await self._beside(peer_id)
                connection = await self._enter(dialled.upgraded, dialled.address, "out")
                connection.when_idle = functools.partial(self._beside_ended, connection)
                return await connection.open_stream(protocols, assume=True)
        except trio.TooSlowError:
            raise TimedOut(f"{peer_id} did not answer in {timeout:g} s") from None

    async def _beside(self, peer_id: str) -> Dialled:
        """Where it is connected now, else where it is known to be."""
        here = [c.address for c in self._table.of(peer_id) if c.direction == "out"]
        return await self._dialer.beside(peer_id, list(dict.fromkeys(here)) or self.addresses_of(peer_id))

    def _beside_ended(self, connection: Connection) -> None:
        if self._table.best(connection.peer_id) is not connection and not connection.busy and not connection.closed:
            self._let_go(connection)

    async def _dial(self, peer_id: str, addresses: Sequence[str] = (), *, impatient: bool = False) -> Connection:
        candidates = list(addresses) or self.addresses_of(peer_id)
        await self._dialer.dial(peer_id, candidates, impatient=impatient)
        connection = self._table.best(peer_id)
        if connection is None:
            raise Unreachable(f"the connection to {peer_id} ended at once")
        return connection

    async def connect(self, address: str, *, timeout: float = 10.0) -> str:
        hint = (
            "An address looks like /ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…; `p2pshare id` on the other machine shows it."
        )
        try:
            plain, peer_id = multiaddr.split_peer(address)
        except RemoteProtocolError as error:
            raise UsageError(f"{address!r} is not an address: {error}", hint=hint) from None
        if peer_id is None or not multiaddr.dialable(plain):
            raise UsageError(f"{address!r} does not name a peer and a TCP address", hint=hint)
        if peer_id == self.peer_id:
            raise UsageError("this is the address of this node itself")
        self._book.add(peer_id, [plain], until=trio.current_time() + 3600, trusted=True)
        try:
            with trio.fail_after(timeout):
                connection = self._table.best(peer_id) or await self._dial(peer_id, [plain], impatient=True)
                await connection.agreed()
        except trio.TooSlowError:
            raise TimedOut(f"{peer_id} did not answer in {timeout:g} s") from None
        return peer_id

    async def reach(self, peer_id: str) -> None:
        """Connects to a peer at the addresses known of it, ignoring their pauses. Raises RemoteError."""
        connection = self._table.best(peer_id) or await self._dial(peer_id, impatient=True)
        await connection.agreed()

    async def disconnect(self, peer_id: str) -> None:
        for connection in self._table.of(peer_id):
            await connection.aclose()

    def protect(self, peer_id: str, why: str) -> None:
        self._table.protect(peer_id, why)

    def unprotect(self, peer_id: str, why: str) -> None:
        self._table.unprotect(peer_id, why)

    def connections(self) -> list[Connection]:
        return list(self._table)

    def peers(self) -> list[PeerInfo]:
        best = (self._table.best(peer_id) for peer_id in self._table.peers())
        return [connection.info() for connection in best if connection is not None]

    def is_connected(self, peer_id: str) -> bool:
        return self._table.best(peer_id) is not None

    def protocols_of(self, peer_id: str) -> frozenset[str]:
        return frozenset().union(*(connection.protocols for connection in self._table.of(peer_id)))

    def add_addresses(self, peer_id: str, addresses: Sequence[str], *, ttl: float = 3600.0) -> None:
        self._book.add(peer_id, addresses, until=trio.current_time() + ttl)

    def trust_addresses(self, peer_id: str, addresses: Sequence[str], *, ttl: float = 3600.0) -> None:
        """The same for addresses from our own configuration or network, which may be private."""
        self._book.add(peer_id, addresses, until=trio.current_time() + ttl, trusted=True)

    def addresses_of(self, peer_id: str) -> list[str]:
        return self._book.of(peer_id, trio.current_time())

    def events(self) -> AbstractContextManager[trio.MemoryReceiveChannel[PeerEvent]]:
        return self._events.subscribe()

    def identified(self, connection: Connection) -> None:
        """Says that identify has filled in what is known about the connection's peer."""
        ours = any(name.startswith(OWN_PREFIX) for name in connection.protocols)
        self._upgrader.identified(connection.peer_id, connection.security, ours=ours)
        self._events.publish(PeerEvent("identified", connection.peer_id))

    def kind_of(self, peer_id: str) -> Kind | None:
        """What the peer is known to speak."""
        return self._upgrader.known.of(peer_id)

    def totals(self) -> tuple[int, int]:
        """Bytes (in, out) of all connections, those that ended too."""
        live = [connection.traffic() for connection in self._table]
        return self.rates.total(live)

    def _reachable(self) -> str:
        if (state := self._reach.now.state) in ("direct", "no"):
            return state
        return "direct" if self.inbound_from_public else "unknown"

    def status(self) -> dict[str, object]:
        rate_in, rate_out = self.rates.per_second
        bytes_in, bytes_out = self.totals()
        return {
            "listen": self.addresses(),
            "reachable": self._reachable(),
            "reachable_why": self._reach.now.why,
            "rates": {"in": rate_in, "out": rate_out},
            "bytes": {"in": bytes_in, "out": bytes_out},
            "connections": len(self._table),
            "congestion": dict(Counter(connection.congestion for connection in self._table)),
            "half_open": len(self._half_open),
            "refused": {
                "half_open": self._half_open.dropped + self._half_open.refused,
                "connections": self._table.refused,
                "descriptors": self._refused_descriptors,
                "streams": self._room.refused,
            },
            "trimmed": self._table.trimmed,
            "protected": self._table.protected,
            "handshakes": {"cpu_seconds": round(self._share.cpu, 3), "waiting": self._share.waiting},
            "streams": self._room.used,
            "handler_errors": self._complaints.total,
            "limits": {
                "connections": self._limits.connections,
                "inbound": self._limits.inbound,
                "streams": self._limits.streams,
                "per_peer": self._limits.per_peer,
                "per_address": self._limits.per_address,
                "per_network": self._limits.per_network,
                "high_water": self._limits.high_water,
                "low_water": self._limits.low_water,
                "half_open": self._limits.half_open.total,
                "half_open_per_address": self._limits.half_open.per_address,
                "half_open_per_network": self._limits.half_open.per_network,
            },
        }
