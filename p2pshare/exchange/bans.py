"""Who sent a wrong block, over all fetches: its identity is no source for a day, its address for ten minutes.

A new identity costs a liar nothing, a new address does. Loopback is exempt, where many nodes share one address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

from p2pshare.net.api import Network
from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError

IDENTITY: Final = 86_400.0  # seconds
ADDRESS: Final = 600.0
MAX_BANS: Final = 4096  # of each; the oldest is forgotten


class Bans:
    """Kept in memory: a restart forgives. `now` is in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._peers: OrderedDict[str, float] = OrderedDict()
        self._places: OrderedDict[str, float] = OrderedDict()

    def ban(self, peer: str, address: str | None, now: float) -> None:
        _put(self._peers, peer, now + IDENTITY)
        if (place := place_of(address)) is not None:
            _put(self._places, place, now + ADDRESS)

    def peer(self, peer: str, now: float) -> float:
        """Seconds for which the identity is banned yet; 0: it is not."""
        return max(0.0, self._peers.get(peer, now) - now)

    def address(self, address: str | None, now: float) -> float:
        """The same for whoever is at this address (a multiaddr)."""
        place = place_of(address)
        return 0.0 if place is None else max(0.0, self._places.get(place, now) - now)


def place_of(address: str | None) -> str | None:
    """What counts as one address: an IPv4 address, or an IPv6 /64, which is what one line is given."""
    try:
        ip = multiaddr.ip_of(address) if address is not None else None
    except RemoteProtocolError:
        return None
    if ip is None or ip.is_loopback:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return None if ip.ipv4_mapped.is_loopback else str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Network((ip, 64), strict=False))
    return str(ip)


def seen_at(network: Network, peer: str) -> str | None:
    """The address at the other end of a peer's connection; None when there is none."""
    return next((info.address for info in network.peers() if info.peer_id == peer), None)


def _put(kept: OrderedDict[str, float], key: str, until: float) -> None:
    kept[key] = until
    kept.move_to_end(key)
    if len(kept) > MAX_BANS:
        kept.popitem(last=False)
