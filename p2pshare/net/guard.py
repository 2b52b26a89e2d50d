"""How many half-open connections there may be, and which one goes when there are too many. No I/O in here.

A connection is half-open from accept until both sides have proven who they are. Each address, each network and the
whole have a limit; over a limit the oldest of the fullest goes, so an address that opens many drops its own, and a
newcomer always gets a turn. (Kubo's one queue for all lets 125 addresses shut everyone out.) An accept costs the same
however many there are.
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

    address: Group
    network: Group
    drop: Callable[[], None]


_Crowd = dict[HalfOpen, None]  # insertion order is age


class HalfOpenTable:
    """The half-open inbound connections, oldest first.

    With `exempt_loopback` each address of loopback counts as a network by itself, with no limit but the total.
    """

    def __init__(self, limits: HalfOpenLimits, *, exempt_loopback: bool = False) -> None:
        self._limits = limits
        self._exempt_loopback = exempt_loopback
        self._addresses: dict[Group, _Crowd] = {}
        self._networks: dict[Group, _Crowd] = {}
        self._count = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._count

    def network(self, ip: IP) -> Group:
        """The network that `ip` counts to."""
        return address_of(ip) if self._exempt(ip) else network_of(ip)

    def _exempt(self, ip: IP) -> bool:
        return self._exempt_loopback and ip.is_loopback

    def enter(self, ip: IP, drop: Callable[[], None]) -> HalfOpen:
        """Takes a place for a connection from `ip`, dropping an older one when a limit is passed."""
        entry = HalfOpen(address_of(ip), self.network(ip), drop)
        address = self._addresses.setdefault(entry.address, {})
        network = self._networks.setdefault(entry.network, {})
        address[entry] = network[entry] = None
        self._count += 1
        if not self._exempt(ip):
            if len(address) > self._limits.per_address:
                self._drop(next(iter(address)))
            if len(network) > self._limits.per_network:
                self._drop(next(iter(network)))
        if self._count > self._limits.total:
            self.drop_one()
        return entry

    def leave(self, entry: HalfOpen) -> None:
        """Gives the place back: the connection is open now, or gone. Safe to call twice."""
        if entry not in self._addresses.get(entry.address, ()):
            return
        self._count -= 1
        for crowds, group in ((self._addresses, entry.address), (self._networks, entry.network)):
            crowd = crowds[group]
            del crowd[entry]
            if not crowd:
                del crowds[group]

    def drop_one(self) -> None:
        """Drops the oldest of the fullest network, when there is one."""
        if self._count:  # of equally full ones the first that came
            fullest = max(self._networks.values(), key=len)
            self._drop(next(iter(fullest)))

    def _drop(self, entry: HalfOpen) -> None:
        self.leave(entry)
        self.dropped += 1
        entry.drop()
