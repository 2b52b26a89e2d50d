"""Which nodes hold a term: the servers nearest to its key. One lookup tells it for all keys of a region.

A lookup gives the 20 servers nearest to its target at least. When the farthest of these shares p bits with the target,
every server that shares p + 1 bits is among them; so any key with these bits is placed without asking again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from p2pshare.dht.api import DHT, Provider
from p2pshare.net.api import Network
from p2pshare_protocols import kad_keys, multiaddr, postings_place
from p2pshare_protocols.index_messages import PROTOCOL
from p2pshare_protocols.item_record import term_key
from p2pshare_protocols.postings_place import REPLICAS
from p2pshare_protocols.postings_room import subnets

MOST_FOUND: Final = 46  # the most that a region of the DHT has
LIFE: Final = 600.0  # seconds that a region is believed to be as it was
_MOST: Final = 256  # regions remembered
_BITS: Final = kad_keys.BITS


@dataclass(frozen=True, slots=True)
class _Region:
    bits: int  # how many of a key's first bits are those of `prefix`
    prefix: int
    members: Sequence[Provider]
    until: float


class Regions:
    def __init__(self, dht: DHT, net: Network, clock: Callable[[], float] = trio.current_time) -> None:
        self._dht = dht
        self._net = net
        self._clock = clock
        self._known: list[_Region] = []

    async def nodes(self, term: str) -> list[Provider]:
        """The servers that are to keep the term's postings: the 8 nearest to its key, or 24 of a region that is crowded
        by somebody. Ourselves are left out."""
        return (await self.around(term))[0]

    async def around(self, term: str) -> tuple[list[Provider], list[Provider]]:
        """The servers that are to keep the term's postings, and others near its key."""
        key = term_key(term)
        place = kad_keys.key_of(key)
        now = self._clock()
        self._known = [region for region in self._known if region.until > now][-_MOST:]
        for region in self._known:
            if place >> (_BITS - region.bits) == region.prefix:
                return self._parted(region.members, place)
        near = await self._dht.closest(key, MOST_FOUND)
        found = [one for one in near if self._may_keep(one.peer_id)]
        for one in found:
            self._net.add_addresses(one.peer_id, one.addresses)
        self._remember(place, near, found, now + LIFE)
        return self._parted(found, place)

    def _parted(self, found: Sequence[Provider], place: int) -> tuple[list[Provider], list[Provider]]:
        keepers = self._keepers(found, place)
        return keepers, [one for one in found if one not in keepers]

    def _keepers(self, found: Sequence[Provider], place: int) -> list[Provider]:
        def distance(one: Provider) -> int:
            return kad_keys.peer_key(one.peer_id) ^ place

        return postings_place.keepers(sorted(found, key=distance), distance, self._dht.size(), _subnet)

    def forget_node(self, peer_id: str) -> None:
        """A node did not answer: its regions are looked up again when they are next needed."""
        self._known = [one for one in self._known if all(node.peer_id != peer_id for node in one.members)]

    def _may_keep(self, peer_id: str) -> bool:
        spoken = self._net.protocols_of(peer_id)
        return not spoken or PROTOCOL in spoken

    def _remember(self, place: int, near: Sequence[Provider], found: Sequence[Provider], until: float) -> None:
        """`near` are all servers that a lookup gave, `found` those of them that may keep postings."""
        if not found or len(near) >= MOST_FOUND:
            return  # some that are near were left out
        distances = sorted(kad_keys.peer_key(one.peer_id) ^ place for one in near)
        # Fewer than a lookup gives are the whole network.
        bits = 0 if len(near) < kad_keys.K else _BITS - distances[kad_keys.K - 1].bit_length() + 1
        prefix = place >> (_BITS - bits)
        inside = [one for one in found if kad_keys.peer_key(one.peer_id) >> (_BITS - bits) == prefix]
        if (len(inside) >= REPLICAS or not bits) and not postings_place.surrounded(distances, self._dht.size()):
            self._known.append(_Region(bits, prefix, inside, until))


def _subnet(one: Provider) -> str:
    ip = multiaddr.ip_of(one.addresses[0]) if one.addresses else None
    return subnets(str(ip))[0]
