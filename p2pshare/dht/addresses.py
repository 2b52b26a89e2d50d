"""Which addresses are taken from whom, and told to whom: private ones stay among those who share the network."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from p2pshare.net.api import Network
from p2pshare_protocols import kad_keys, multiaddr

MAX_ADDRESSES = 16
SEEN_FOR = 2.0
"""Seconds for which the other ends of all connections are remembered: every question needs one of them."""


class Addresses:
    def __init__(self, net: Network, *, allow_private: bool) -> None:
        self._net = net
        self._allow_private = allow_private
        self._seen: dict[str, str] = {}
        self._shares: dict[str, bool] = {}
        self._subnets: dict[str, frozenset[str]] = {}
        self._seen_until = float("-inf")

    def seen_at(self, peer_id: str) -> str | None:
        """The address at the other end of the connection to a peer, or None when there is none."""
        now = trio.current_time()
        if now >= self._seen_until or (peer_id not in self._seen and self._net.is_connected(peer_id)):
            self._seen = {peer.peer_id: peer.address for peer in self._net.peers()}
            self._shares, self._subnets = {}, {}
            self._seen_until = now + SEEN_FOR
        return self._seen.get(peer_id)

    def shares_network(self, peer_id: str) -> bool:
        """Whether private addresses mean the same to a peer as to us, as far as can be told."""
        if not self._allow_private:
            return False
        address = self.seen_at(peer_id)
        if address is None:
            return False
        shares = self._shares.get(peer_id)
        if shares is None:
            shares = self._shares[peer_id] = multiaddr.is_private(address)
        return shares

    def subnets(self, peer_id: str) -> frozenset[str]:
        """Where a peer is, for bounds: its IPv4 /24 or IPv6 /56; none on a private network that is allowed."""
        address = self.seen_at(peer_id)
        subnets = self._subnets.get(peer_id)
        if subnets is None:
            subnets = kad_keys.subnets(() if address is None else (address,), private_exempt=self._allow_private)
            if address is not None:
                self._subnets[peer_id] = subnets
        return subnets

    def usable(self, addresses: Iterable[str], *, private: bool) -> tuple[str, ...]:
        """Each once, at most 16, private ones only with `private`."""
        kept = (address for address in addresses if private or not multiaddr.is_private(address))
        return tuple(dict.fromkeys(kept))[:MAX_ADDRESSES]

    def own(self, *, private: bool) -> tuple[str, ...]:
        """Our own, without the /p2p suffix."""
        return self.usable((multiaddr.split_peer(text)[0] for text in self._net.addresses()), private=private)

    def known(self, peer_id: str, stored: Iterable[str], *, private: bool) -> tuple[str, ...]:
        """What we know now and what was stored, as it may be told."""
        return self.usable((*self._net.addresses_of(peer_id), *stored), private=private)
