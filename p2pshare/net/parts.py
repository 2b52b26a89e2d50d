"""What open_network is given: who we are, peers of earlier runs, and how much strangers may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.net.guard import HalfOpenLimits


class Identity(Protocol):
    """What of p2pshare.identity.Identity is used here. `public` is the raw Ed25519 key, 32 bytes."""

    @property
    def private(self) -> Ed25519PrivateKey: ...

    @property
    def public(self) -> bytes: ...

    @property
    def peer_id(self) -> str: ...


class Remembered(Protocol):
    """Peers of earlier runs: `p2pshare.store`'s peers. `seen` is wall-clock time, in seconds."""

    def remember(self, peer_id: str, addresses: Sequence[str], seen: float) -> None: ...

    def known(self, limit: int) -> Sequence[tuple[str, Sequence[str], float]]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """connections: open ones in total. per_peer: to one peer; per_network: inbound from one /24 or /56, loopback not
    counted where private addresses are allowed. handshake_seconds: from accept to secured and muxed."""

    connections: int = 256
    per_peer: int = 4
    per_network: int = 64
    half_open: HalfOpenLimits = field(default_factory=HalfOpenLimits)
    handshake_seconds: float = 10.0


DEFAULT_LIMITS = Limits()
