"""Peer exchange: who fetches what from us, told to others who fetch the same, and what others tell us, checked.

Private addresses are told to, and taken from, only peers whose own address is private.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from p2pshare.net.api import Network
from p2pshare_protocols import multiaddr, peerid
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_messages import MAX_OTHERS, MAX_OTHERS_ADDRESSES, Other

EVERY: Final = 30.0  # seconds between two lists to one peer
FRESH: Final = 90.0  # seconds after which one that did not ask again is told no more
MAX_ROOTS: Final = 1024
MAX_ASKERS: Final = 64  # of one root


class Askers:
    """Who asked lately, as one that fetches. Bounded: the longest unheard of is forgotten."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._roots: OrderedDict[bytes, OrderedDict[str, float]] = OrderedDict()

    def note(self, root: bytes, peer: str, now: float) -> None:
        askers = self._roots.setdefault(root, OrderedDict())
        self._roots.move_to_end(root)
        askers[peer] = now
        askers.move_to_end(peer)
        if len(askers) > MAX_ASKERS:
            askers.popitem(last=False)
        if len(self._roots) > MAX_ROOTS:
            self._roots.popitem(last=False)

    def others(self, root: bytes, peer: str, now: float) -> tuple[Other, ...]:
        """Those besides `peer`, the latest first, at most 16, each with at most 4 addresses."""
        private = is_near(self._network, peer)
        found: list[Other] = []
        for other, asked in reversed(self._roots.get(root, OrderedDict()).items()):
            if now - asked > FRESH or len(found) == MAX_OTHERS:
                break
            if other == peer:
                continue
            addresses = [
                multiaddr.to_binary(address)
                for address in self._network.addresses_of(other)
                if multiaddr.dialable(address) and (private or not multiaddr.is_private(address))
            ][:MAX_OTHERS_ADDRESSES]
            if addresses:
                found.append(Other(peerid.peer_id_to_bytes(other), tuple(addresses)))
        return tuple(found)


def is_near(network: Network, peer: str) -> bool:
    """Whether a connected peer's address is a private one, so that private addresses mean the same to it."""
    return any(info.peer_id == peer and multiaddr.is_private(info.address) for info in network.peers())


def checked(others: Sequence[Other], *, private: bool) -> Iterator[tuple[str, list[str]]]:
    """Peers with the addresses that can be dialled; what is no peer, or has none, is left out."""
    for other in others:
        try:
            peer = peerid.check_peer_id(peerid.peer_id_from_bytes(other.peer))
        except RemoteProtocolError:
            continue
        addresses = []
        for binary in other.addresses:
            try:
                address, named = multiaddr.split_peer(multiaddr.to_text(binary))
            except RemoteProtocolError:
                continue
            fits = named in (None, peer) and multiaddr.dialable(address)
            if fits and (private or not multiaddr.is_private(address)):
                addresses.append(address)
        if addresses:
            yield peer, addresses
