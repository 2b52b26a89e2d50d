"""How often a peer may open streams, and take them back: what is cheap for it and work for us.

Opening a stream and resetting it at once costs a peer two frames and no place among its open streams
(CVE-2023-44487, "rapid reset").
"""

from __future__ import annotations

from p2pshare.net.bucket import Bucket
from p2pshare_protocols.errors import RemoteProtocolError


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
