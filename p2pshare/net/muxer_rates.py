"""How often a peer may open streams, and take them back: what is cheap for it and work for us.

Opening a stream and resetting it at once costs a peer two frames and no place among its open streams
(CVE-2023-44487, "rapid reset").
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pshare_protocols.errors import RemoteProtocolError


@dataclass(slots=True)
class Bucket:
    """`burst` at once, then `rate` a second. Full at the start."""

    burst: float
    rate: float
    _left: float = field(init=False)
    _at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._left = self.burst

    def take(self, now: float) -> bool:
        """False when there is none left."""
        self._left = min(self.burst, self._left + max(0.0, now - self._at) * self.rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class StreamRates:
    """Of one connection. `now` is the clock of all calls."""

    def __init__(self, opens: tuple[float, float], resets: tuple[float, float]) -> None:
        self._opens = Bucket(*opens)
        self._resets = Bucket(*resets)

    def may_open(self, now: float) -> bool:
        """Whether the peer may open one more stream; a refused one is reset."""
        return self._opens.take(now)

    def reset(self, now: float) -> None:
        """The peer reset a stream. Raises RemoteProtocolError when it does so without end."""
        if not self._resets.take(now):
            raise RemoteProtocolError("the peer opens streams and resets them without end")
