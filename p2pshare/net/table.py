"""The open connections, and which one goes when there are too many. No I/O in here; a stream in use is never broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from p2pshare.net.connection import Connection
from p2pshare.net.guard import IP, Group, address_of, network_of
from p2pshare.net.parts import Limits
from p2pshare_protocols import multiaddr

GRACE_SECONDS = 20.0  # a connection idle for less is not idle yet

_ip_of = lru_cache(maxsize=1024)(multiaddr.ip_of)


class ConnectionTable:
    """Connections by peer, oldest first. Two peers that dial each other at once keep both connections."""

    def __init__(self, limits: Limits, *, exempt_loopback: bool) -> None:
        self._limits = limits
        self._exempt_loopback = exempt_loopback
        self._by_peer: dict[str, list[Connection]] = {}
        self._protected: dict[str, set[str]] = {}
        self.refused = 0
        self.trimmed = 0

    def __iter__(self) -> Iterator[Connection]:
        return (connection for group in self._by_peer.values() for connection in list(group))

    def __len__(self) -> int:
        return sum(map(len, self._by_peer.values()))

    def peers(self) -> list[str]:
        return list(self._by_peer)

    def best(self, peer_id: str) -> Connection | None:
        """The connection for new streams: the oldest that lives, so that both sides settle on the same one."""
        return next((c for c in self._by_peer.get(peer_id, ()) if not c.closed), None)

    def of(self, peer_id: str) -> list[Connection]:
        return list(self._by_peer.get(peer_id, ()))

    def protect(self, peer_id: str, why: str) -> None:
        """Keeps the peer's connections, idle or not, until each `why` is taken back."""
        self._protected.setdefault(peer_id, set()).add(why)

    def unprotect(self, peer_id: str, why: str) -> None:
        reasons = self._protected.get(peer_id, set())
        reasons.discard(why)
        if not reasons:
            self._protected.pop(peer_id, None)

    @property
    def protected(self) -> int:
        """Peers that are protected."""
        return len(self._protected)

    def room_for(self, newcomer: Connection, now: float) -> tuple[bool, list[Connection]]:
        """Whether the newcomer may enter, and which idle connections have to be closed for it."""
        leaving: list[Connection] = []
        for members, limit, grace in self._crowds(newcomer):
            staying = [c for c in members if c not in leaving and not c.closed]
            if len(staying) < limit:
                continue
            victim = self._most_idle(staying, now, grace=grace)
            if victim is None:
                self.refused += 1
                return False, []
            leaving.append(victim)
        return True, leaving

    def _crowds(self, newcomer: Connection) -> Iterator[tuple[Iterable[Connection], int, float]]:
        """The connections that the newcomer counts with, their limit, and how long an idle one is spared."""
        limits = self._limits
        yield self.of(newcomer.peer_id), limits.per_peer, 0.0
        if newcomer.direction == "in":
            inbound = [c for c in self if c.direction == "in"]
            ip = self._counted(newcomer)
            if ip is not None:
                yield self._like(inbound, ip, address_of), limits.per_address, GRACE_SECONDS
                yield self._like(inbound, ip, network_of), limits.per_network, GRACE_SECONDS
            yield inbound, limits.inbound, GRACE_SECONDS
        yield self, limits.connections, GRACE_SECONDS

    def _like(self, members: Iterable[Connection], ip: IP, group_of: Callable[[IP], Group]) -> list[Connection]:
        return [c for c in members if (other := self._counted(c)) is not None and group_of(other) == group_of(ip)]

    def trim(self, now: float) -> list[Connection]:
        """The idle connections to close, down to the low water, once there are more than the high water."""
        living = [c for c in self if not c.closed]
        if len(living) <= self._limits.high_water:
            return []
        leaving: list[Connection] = []
        while len(living) > self._limits.low_water:
            victim = self._most_idle(living, now, grace=GRACE_SECONDS)
            if victim is None:
                break
            living.remove(victim)
            leaving.append(victim)
        self.trimmed += len(leaving)
        return leaving

    def _counted(self, connection: Connection) -> IP | None:
        """The address that an inbound connection counts to; None where nobody counts."""
        ip = _ip_of(connection.address)
        if connection.direction == "out" or ip is None or (ip.is_loopback and self._exempt_loopback):
            return None
        return ip

    def _group(self, connection: Connection) -> Group | None:
        ip = self._counted(connection)
        return None if ip is None else network_of(ip)

    def _most_idle(self, members: list[Connection], now: float, *, grace: float) -> Connection | None:
        """Of those without a stream, the longest idle one in the most crowded network; ours (dialled) go last."""
        idle = [
            c
            for c in members
            if not c.busy and now - c.idle_since >= grace and (c.peer_id not in self._protected or not grace)
        ]
        if not idle:
            return None
        groups = {c: self._group(c) for c in members}
        crowd = Counter(groups.values())
        return min(idle, key=lambda c: (c.direction == "out", -crowd[groups[c]], c.idle_since))

    def add(self, connection: Connection) -> bool:
        """True when it is the first of its peer."""
        group = self._by_peer.setdefault(connection.peer_id, [])
        group.append(connection)
        return len(group) == 1

    def remove(self, connection: Connection) -> bool:
        """True when it was the last of its peer."""
        group = self._by_peer.get(connection.peer_id, [])
        if connection in group:
            group.remove(connection)
        if group or connection.peer_id not in self._by_peer:
            return False
        del self._by_peer[connection.peer_id]
        return True
