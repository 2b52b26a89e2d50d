"""The provider records that this node keeps: for how long, and how many of whom."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

from p2pshare.errors import QuotaExceeded
from p2pshare.store import Store
from p2pshare.store.providers import PRIVATE
from p2pshare_protocols import ipns
from p2pshare_protocols.cid import CID
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.kad_messages import Message, Record

LIFE = 48 * 3600.0
"""Seconds: the libp2p specification's provider record expiration (since 2022)."""
REPUBLISH = 22 * 3600.0
"""Seconds: the specification's provider record republish interval."""
TOLD = 50
"""Providers in one answer, drawn at random, so that nobody is crowded out for ever."""


class Records:
    """Over `store.providers`, which bounds them."""

    def __init__(self, store: Store, own_id: str, *, wall_clock: Callable[[], float], rng: random.Random) -> None:
        self._providers = store.providers
        self._values = store.values
        self._own_id = own_id
        self._wall_clock = wall_clock
        self._rng = rng

    def add(self, key: bytes, peer_id: str, addresses: Sequence[str], *, subnets: Collection[str] = ()) -> bool:
        """Keep what a peer of these subnets (none: of a private network) says of itself. False when it is full.

        `key` is a multihash: RemoteProtocolError if not.
        """
        CID.from_binary(b"\x01\x55" + key)
        subnet = min(subnets, default=PRIVATE)
        try:
            self._providers.put(key, peer_id, addresses, self._wall_clock() + LIFE, subnet=subnet)
        except QuotaExceeded:
            return False
        return True

    def together(self, changes: int) -> AbstractContextManager[None]:
        """So many changes are one transaction; reads in it see them at once. No waiting inside."""
        return nullcontext() if changes < 2 else self._providers.together()

    def add_own(self, keys: Sequence[bytes], addresses: Sequence[str], *, found: bool) -> None:
        """That we provide. Not `found` in the network: kept as old ones, so that they are soon repeated."""
        expires = self._wall_clock() + (LIFE if found else LIFE - REPUBLISH)
        try:
            self._providers.put_own(keys, self._own_id, addresses, expires)
        except QuotaExceeded:
            return

    def due(self, keys: Iterable[bytes], every: float = REPUBLISH) -> dict[bytes, float]:
        """Those of our keys that must be repeated, when each is to be every so many seconds: for how long already.

        A record that lasts longer than any can was made before the clock was set back: nobody knows how old it is.
        """
        now, held = self._wall_clock(), self._providers.expiries(self._own_id)
        held = {key: expires for key, expires in held.items() if expires <= now + LIFE}
        late = {key: now - held[key] + LIFE - min(every, REPUBLISH) if key in held else 0.0 for key in keys}
        return {key: seconds for key, seconds in late.items() if seconds >= 0.0}

    def live(self, key: bytes) -> list[tuple[str, list[str], float]]:
        return self._providers.get(key, self._wall_clock(), TOLD)

    def tell(self, key: bytes, asker: str) -> list[tuple[str, list[str]]]:
        """At most 50 providers for an answer. The asker's own comes first: it is how it sees that we keep it."""
        now = self._wall_clock()
        told = self._providers.sample(key, now, TOLD, self._rng.getrandbits(32))
        own = self._providers.one(key, asker, now) if told else None
        if own is None:
            return told
        return [(asker, own[0]), *(record for record in told if record[0] != asker)][:TOLD]

    def keep_value(self, message: Message, subnets: Collection[str]) -> None:
        """Raises RemoteProtocolError for a value that is not valid; one that is worse than ours changes nothing."""
        if message.record is None or message.record.key != message.key:
            raise RemoteProtocolError("a DHT value without its key")
        now, value = self._wall_clock(), message.record.value
        ipns.check(message.key, value, now)
        held = self.value(message.key)
        if held is None or ipns.better(message.key, value, held.value):
            self._values.put(message.key, value, now + LIFE, subnet=min(subnets, default=PRIVATE))

    def check_value(self, key: bytes, value: bytes) -> None:
        """Raises RemoteProtocolError unless `value` may stand under `key` now."""
        ipns.check(key, value, self._wall_clock())

    def value(self, key: bytes) -> Record | None:
        """What is kept under a key, if it is still valid."""
        now = self._wall_clock()
        value = self._values.get(key, now)
        if value is None:
            return None
        try:
            ipns.check(key, value, now)
        except RemoteProtocolError:
            return None  # it has ended
        return Record(key, value)

    def expire(self) -> None:
        self._providers.expire(self._wall_clock())
        self._values.expire(self._wall_clock())

    def count(self) -> int:
        return self._providers.count()
