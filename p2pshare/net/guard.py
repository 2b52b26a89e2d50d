"""How many half-open connections there may be, and which one goes when there are too many. No I/O in here.

A connection is half-open from accept until both sides have proven who they are. Each address, each network and the
whole have a limit; over a limit the oldest of the fullest goes, so an address that opens many drops its own, and a
newcomer always gets a turn. (Kubo's one queue for all lets 125 addresses shut everyone out.) Who makes its own go more
than a few dozen times a second is refused at once: an accept must be cheaper for us than the connect was for them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pshare.net.bucket import Bucket

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Group = tuple[int, int]  # IP version, leading bits
BURST = 4  # seconds' worth of `churn` that may come at once


@dataclass(frozen=True, slots=True)
class HalfOpenLimits:
    total: int = 128
    per_network: int = 32
    per_address: int = 8
    churn: float = 64.0  # newcomers a second that may take the place of one of their own network


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


@dataclass(eq=False, slots=True)
class _Crowd:
    """The entries of one address or network, oldest first, and how often one more may take an older one's place."""

    churn: Bucket
    entries: dict[HalfOpen, None] = field(default_factory=dict)

    @property
    def oldest(self) -> HalfOpen:
        return next(iter(self.entries))


class HalfOpenTable:
    """The half-open inbound connections, oldest first.

    With `exempt_loopback` each address of loopback counts as a network by itself, with no limit but the total.
    """

    def __init__(self, limits: HalfOpenLimits, *, exempt_loopback: bool = False) -> None:
        self._limits = limits
        self._exempt_loopback = exempt_loopback
        self._addresses: dict[Group, _Crowd] = {}
        self._networks: dict[Group, _Crowd] = {}
        self._by_size: dict[int, dict[_Crowd, None]] = {}  # networks by their entries, longest of this size first
        self._most = 0
        self._count = 0
        self.dropped = 0
        self.refused = 0

    def __len__(self) -> int:
        return self._count

    def network(self, ip: IP) -> Group:
        """The network that `ip` counts to."""
        return address_of(ip) if self._exempt(ip) else network_of(ip)

    def _exempt(self, ip: IP) -> bool:
        return self._exempt_loopback and ip.is_loopback

    def enter(self, ip: IP, drop: Callable[[], None], now: float = 0.0) -> HalfOpen | None:
        """Takes a place for a connection from `ip`, dropping an older one when a limit is passed.

        None when it is refused: too many of its own have had to go for newer ones in the last second.
        """
        entry = HalfOpen(address_of(ip), self.network(ip), drop)
        address = self._crowd(self._addresses, entry.address)
        network = self._crowd(self._networks, entry.network)
        address.entries[entry] = network.entries[entry] = None
        self._count += 1
        self._resized(network, len(network.entries) - 1)
        exempt = self._exempt(ip)
        full: _Crowd | None = None
        if not exempt and len(address.entries) > self._limits.per_address:
            full = address
        elif not exempt and len(network.entries) > self._limits.per_network:
            full = network
        elif self._count > self._limits.total:
            full = self._fullest()
        if full is None:
            return entry
        if entry in full.entries and not full.churn.take(now):
            self.leave(entry)
            self.refused += 1
            return None
        self._drop(full.oldest)
        return entry

    def leave(self, entry: HalfOpen) -> None:
        """Gives the place back: the connection is open now, or gone. Safe to call twice."""
        if entry.address not in self._addresses or entry not in self._addresses[entry.address].entries:
            return
        self._count -= 1
        network = self._networks[entry.network]
        for crowds, group in ((self._addresses, entry.address), (self._networks, entry.network)):
            crowd = crowds[group]
            del crowd.entries[entry]
            if not crowd.entries:
                del crowds[group]
        self._resized(network, len(network.entries) + 1)

    def drop_one(self) -> None:
        """Drops the oldest of the fullest network, when there is one."""
        if self._count:
            self._drop(self._fullest().oldest)

    def _crowd(self, crowds: dict[Group, _Crowd], group: Group) -> _Crowd:
        if (crowd := crowds.get(group)) is None:
            crowd = crowds[group] = _Crowd(Bucket(BURST * self._limits.churn, self._limits.churn))
        return crowd

    def _fullest(self) -> _Crowd:
        """Of equally full ones that which has been so full for longest."""
        return next(iter(self._by_size[self._most]))

    def _resized(self, network: _Crowd, before: int) -> None:
        """Keeps `_by_size`, so that a newcomer costs as little among a hundred networks as among two."""
        if before:
            del self._by_size[before][network]
            if not self._by_size[before]:
                del self._by_size[before]
        if after := len(network.entries):
            self._by_size.setdefault(after, {})[network] = None
        if after > self._most or self._most not in self._by_size:
            self._most = after  # sizes change by one

    def _drop(self, entry: HalfOpen) -> None:
        self.leave(entry)
        self.dropped += 1
        entry.drop()


class StreamRoom:
    """Handlers at work for strangers' streams, of all connections together.

    When it is full, a connection may still have ALWAYS streams, so that those who hoard do not shut out the others.
    """

    ALWAYS = 8

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.refused = 0

    def enter(self, mine: int) -> bool:
        """Whether a connection that has `mine` already may have one more; it calls `leave` when it is done."""
        if self.used >= self.limit and mine >= self.ALWAYS:
            self.refused += 1
            return False
        self.used += 1
        return True

    def leave(self) -> None:
        self.used -= 1
