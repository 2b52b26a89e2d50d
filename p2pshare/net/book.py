"""Where peers may be dialled, and which addresses failed lately. No I/O in here; `now` is trio's clock, in seconds."""

from __future__ import annotations

from collections.abc import Iterable

from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError

MAX_PEERS = 4096
MAX_ADDRESSES = 16  # of one peer
_MAX_FAILED = 8192
_FIRST_PAUSE = 1.0  # seconds until an address that failed once is tried again; doubles up to _LONGEST_PAUSE
_LONGEST_PAUSE = 300.0


class AddressBook:
    """Addresses of peers, without their /p2p suffix. The least lately heard of go when there are too many."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._peers: dict[str, dict[str, float]] = {}

    def add(self, peer_id: str, addresses: Iterable[str], *, until: float, trusted: bool = False) -> None:
        """Keeps those that can be dialled. Private ones only when `trusted` (ours, or from the LAN) or allowed."""
        kept = self._peers.pop(peer_id, {})
        for address in addresses:
            plain = self._usable(peer_id, address, trusted)
            if plain is None:
                continue
            expires = max(until, kept.pop(plain, 0.0))
            kept[plain] = expires
            if len(kept) > MAX_ADDRESSES:
                del kept[next(iter(kept))]
        if not kept:
            return
        self._peers[peer_id] = kept
        if len(self._peers) > MAX_PEERS:
            del self._peers[next(iter(self._peers))]

    def _usable(self, peer_id: str, address: str, trusted: bool) -> str | None:
        try:
            plain, named = multiaddr.split_peer(address)
        except RemoteProtocolError:
            return None
        if named not in (None, peer_id) or not multiaddr.dialable(plain):
            return None
        if not (trusted or self._allow_private) and multiaddr.is_private(plain):
            return None
        return plain

    def of(self, peer_id: str, now: float) -> list[str]:
        """The addresses that have not expired, those heard of last first."""
        kept = self._peers.get(peer_id, {})
        return [address for address, until in reversed(kept.items()) if until > now]


class Backoff:
    """Addresses that failed, each with its own pause. A new address of the same peer is not held up."""

    def __init__(self) -> None:
        self._failed: dict[str, tuple[int, float]] = {}

    def ready(self, address: str, now: float) -> bool:
        return address not in self._failed or self._failed[address][1] <= now

    def failed(self, address: str, now: float) -> None:
        count = self._failed.pop(address, (0, 0.0))[0] + 1
        self._failed[address] = (count, now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(count - 1, 16)))
        if len(self._failed) > _MAX_FAILED:
            del self._failed[next(iter(self._failed))]

    def succeeded(self, address: str) -> None:
        self._failed.pop(address, None)
