"""What open_network is given: who we are, peers of earlier runs, and how much strangers may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def spoke(self, peer_id: str, session: str, ours: bool, learned: float) -> None:
        """Keeps what a remembered peer speaks, see `p2pshare.net.kinds`; session "" forgets it."""

    def spoken(self) -> Sequence[tuple[str, str, bool, float]]:
        """(peer ID, session, ours, learned) of all of whom it is known, the most lately seen first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections there may be, and how long a handshake takes.

    connections: open ones in total, of which strangers may have opened three quarters, so that they cannot keep us
    from dialling. per_peer: to one peer. per_address and per_network: inbound from one IPv4 address or IPv6 /64, from
    one /24 or /56; loopback is not counted where private addresses are allowed. streams: of strangers, with
    handlers at work, in all connections together. high_water: with more than so many,
    idle ones are closed down to low_water; 0 is three quarters and a half of `connections`. handshake_seconds: from
    accept to secured and muxed. handshake_share: of one core, for all inbound handshakes together.
    """

    connections: int = 256
    per_peer: int = 8
    per_address: int = 32
    per_network: int = 64
    streams: int = 4096
    high_water: int = 0
    low_water: int = 0
    half_open: HalfOpenLimits = field(default_factory=HalfOpenLimits)
    handshake_seconds: float = 10.0
    handshake_share: float = 0.15

    def __post_init__(self) -> None:
        high = self.high_water or self.connections * 3 // 4
        object.__setattr__(self, "high_water", min(high, self.connections))
        object.__setattr__(self, "low_water", min(self.low_water or self.connections // 2, self.high_water))

    @property
    def inbound(self) -> int:
        return self.connections - self.connections // 4


DEFAULT_LIMITS = Limits()


def limits_from(values: Mapping[str, object]) -> Limits:
    """The limits that the keys limits.* of a checked configuration say; what a key does not say is as by default."""

    def number(name: str, default: int) -> int:
        value = values.get(f"limits.{name}", default)
        assert isinstance(value, int)
        return value

    half_open = number("half_open", DEFAULT_LIMITS.half_open.total)
    return Limits(
        connections=number("connections", DEFAULT_LIMITS.connections),
        per_peer=number("connections_per_peer", DEFAULT_LIMITS.per_peer),
        half_open=HalfOpenLimits(
            total=half_open,
            per_network=min(half_open, DEFAULT_LIMITS.half_open.per_network),
            per_address=min(half_open, DEFAULT_LIMITS.half_open.per_address),
        ),
    )
