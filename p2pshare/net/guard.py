"""How many half-open connections there may be, and which one goes when there are too many. No I/O in here.

A connection is half-open from accept until both sides have proven who they are. Each address, each network and the
whole have a limit; over a limit the oldest of the fullest goes, so an address that opens many drops its own, and a
newcomer always gets a turn. (Kubo's one queue for all lets 125 addresses shut everyone out.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Group = tuple[int, int]  # IP version, leading bits


@dataclass(frozen=True, slots=True)
class HalfOpenLimits:
    total: int = 128
    per_network: int = 32
    per_address: int = 8


def network_of(ip: IP) -> Group:
    """The /24 of an IPv4 address, the /56 of an IPv6 address: what one customer usually gets (RFC 6177)."""
    return (4, int(ip) >> 8) if ip.version == 4 else (6, int(ip) >> 72)


def address_of(ip: IP) -> Group:
    """What counts as one address: an IPv4 address, an IPv6 /64 (a host picks the rest itself)."""
    return (4, int(ip)) if ip.version == 4 else (6, int(ip) >> 64)


@dataclass(eq=False, slots=True)
class HalfOpen:
    """A place in the table. `drop` is called, once, when it is taken from its holder."""

    ip: IP
    drop: Callable[[], None]
    exempt: bool = False


class HalfOpenTable:
    """The half-open inbound connections, oldest first."""

    def __init__(self, limits: HalfOpenLimits, *, exempt_loopback: bool = False) -> None:
        self._limits = limits
        self._exempt_loopback = exempt_loopback
        self._entries: dict[HalfOpen, None] = {}  # insertion order is age
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def enter(self, ip: IP, drop: Callable[[], None]) -> HalfOpen:
        """Takes a place for a connection from `ip`, dropping an older one when a limit is passed."""
        entry = HalfOpen(ip, drop, exempt=ip.is_loopback and self._exempt_loopback)
        self._entries[entry] = None
        if not entry.exempt:
            self._hold(address_of, entry, self._limits.per_address)
            self._hold(network_of, entry, self._limits.per_network)
        if len(self._entries) > self._limits.total:
            self._drop_one_of_the_fullest()
        return entry

    def leave(self, entry: HalfOpen) -> None:
        """Gives the place back: the connection is open now, or gone. Safe to call twice."""
        self._entries.pop(entry, None)

    def _hold(self, group_of: Callable[[IP], Group], newest: HalfOpen, limit: int) -> None:
        group = group_of(newest.ip)
        members = [e for e in self._entries if not e.exempt and group_of(e.ip) == group]
        if len(members) > limit:
            self._drop(members[0])

    def _drop_one_of_the_fullest(self) -> None:
        groups: dict[Group, list[HalfOpen]] = {}
        for entry in self._entries:
            groups.setdefault(network_of(entry.ip), []).append(entry)
        self._drop(max(groups.values(), key=len)[0])  # of equal ones the first seen: the oldest

    def _drop(self, entry: HalfOpen) -> None:
        del self._entries[entry]
        self.dropped += 1
        entry.drop()
