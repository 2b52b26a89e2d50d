"""The open connections, and which one goes when there are too many. No I/O in here; a stream in use is never broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from p2pshare.net.connection import Connection
from p2pshare.net.guard import Group, network_of
from p2pshare.net.parts import Limits
from p2pshare_protocols import multiaddr

GRACE_SECONDS = 20.0  # a connection idle for less is not idle yet


class ConnectionTable:
    """Connections by peer, oldest first. Two peers that dial each other at once keep both connections."""

    def __init__(self, limits: Limits, *, exempt_loopback: bool) -> None:
        self._limits = limits
        self._exempt_loopback = exempt_loopback
        self._by_peer: dict[str, list[Connection]] = {}
        self.refused = 0

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

    def room_for(self, newcomer: Connection, now: float) -> tuple[bool, list[Connection]]:
        """Whether the newcomer may enter, and which idle connections have to be closed for it."""
        leaving: list[Connection] = []
        mine = self.of(newcomer.peer_id)
        group = self._group(newcomer)
        neighbours = [c for c in self if group is not None and self._group(c) == group]
        for members, limit in (
            (mine, self._limits.per_peer),
            (neighbours, self._limits.per_network),
            (list(self), self._limits.connections),
        ):
            staying = [c for c in members if c not in leaving and not c.closed]
            if len(staying) < limit:
                continue
            victim = self._most_idle(staying, now, grace=0.0 if members is mine else GRACE_SECONDS)
            if victim is None:
                self.refused += 1
                return False, []
            leaving.append(victim)
        return True, leaving

    def _group(self, connection: Connection) -> Group | None:
        ip = multiaddr.ip_of(connection.address)
        if connection.direction == "out" or ip is None or (ip.is_loopback and self._exempt_loopback):
            return None
        return network_of(ip)

    def _most_idle(self, members: list[Connection], now: float, *, grace: float) -> Connection | None:
        """Of those without a stream, the longest idle one in the most crowded network; ours (dialled) go last."""
        idle = [c for c in members if not c.busy and now - c.idle_since >= grace]
        crowd = Counter(self._group(c) for c in members)
        return min(idle, key=lambda c: (c.direction == "out", -crowd[self._group(c)], c.idle_since), default=None)

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
