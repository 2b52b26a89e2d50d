"""The provider records that this node keeps: for how long, and how many of whom."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from p2pshare.errors import QuotaExceeded
from p2pshare.store import Store
from p2pshare_protocols.cid import CID

LIFE = 48 * 3600.0
"""Seconds: the libp2p specification's provider record expiration (since 2022)."""
REPUBLISH = 22 * 3600.0
"""Seconds: the specification's provider record republish interval."""
PER_KEY = 1000
PER_PEER = 50_000
TOLD = 50
"""Providers in one answer, drawn at random, so that nobody is crowded out for ever."""


class Records:
    """Over `store.providers`. A peer's own first record of a key costs it a place; renewing one is free."""

    def __init__(self, store: Store, own_id: str, *, wall_clock: Callable[[], float], rng: random.Random) -> None:
        self._providers = store.providers
        self._own_id = own_id
        self._wall_clock = wall_clock
        self._rng = rng

    def add(self, key: bytes, peer_id: str, addresses: Sequence[str]) -> bool:
        """Keep what a peer says of itself. `key` is a multihash: RemoteProtocolError if not. False when it is full."""
        CID.from_binary(b"\x01\x55" + key)
        if self._is_full(key, peer_id):
            return False
        try:
            self._providers.put(key, peer_id, addresses, self._wall_clock() + LIFE)
        except QuotaExceeded:
            return False
        return True

    def _is_full(self, key: bytes, peer_id: str) -> bool:
        held = self._providers.count(key=key)
        if held >= PER_KEY and all(peer != peer_id for peer, _, _ in self.live(key)):
            return True
        return self._providers.count(peer_id=peer_id) >= PER_PEER and all(
            peer != peer_id for peer, _, _ in self.live(key)
        )

    def add_own(self, key: bytes, addresses: Sequence[str], *, found: bool) -> None:
        """That we provide. Not `found` in the network: kept as an old one, so that it is soon repeated."""
        expires = self._wall_clock() + (LIFE if found else LIFE - REPUBLISH)
        try:
            self._providers.put(key, self._own_id, addresses, expires)
        except QuotaExceeded:
            return

    def is_due(self, key: bytes) -> bool:
        """Whether our own record must be repeated."""
        until = [expires for peer, _, expires in self.live(key) if peer == self._own_id]
        return not until or until[0] <= self._wall_clock() + LIFE - REPUBLISH

    def live(self, key: bytes) -> list[tuple[str, list[str], float]]:
        return self._providers.get(key, self._wall_clock(), PER_KEY + 1)

    def tell(self, key: bytes, asker: str) -> list[tuple[str, list[str]]]:
        """At most 50 providers for an answer. The asker's own comes first: it is how it sees that we keep it."""
        live = self.live(key)
        own = [(peer, addresses) for peer, addresses, _ in live if peer == asker]
        others = [(peer, addresses) for peer, addresses, _ in live if peer != asker]
        room = TOLD - len(own)
        return own + (others if len(others) <= room else self._rng.sample(others, room))

    def expire(self) -> None:
        self._providers.expire(self._wall_clock())

    def count(self) -> int:
        return self._providers.count()
