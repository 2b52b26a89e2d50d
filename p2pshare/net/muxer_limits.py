"""How much one connection, and all of them together, may make us hold."""

from __future__ import annotations

from dataclasses import dataclass

from p2pshare_protocols.yamux import MAX_WINDOW
from p2pshare_protocols.yamux_streams import INITIAL_WINDOW

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MuxerLimits:
    """Limits of one connection. Times in seconds, sizes in bytes."""

    max_inbound: int = 256
    max_outbound: int = 1024
    max_window: int = MAX_WINDOW
    first_window: int = INITIAL_WINDOW  # what a new stream is raised to, as far as a quarter of the budget left allows
    receive_budget: int = 32 * MIB
    ping_interval: float = 30.0
    ping_timeout: float = 30.0
    stall_timeout: float = 900.0  # no byte either way, of a peer that may be reading what it was sent
    close_timeout: float = 1.0
    opens: tuple[float, float] = (2048, 256)  # streams that the peer may open: at once, and a second
    resets: tuple[float, float] = (512, 64)  # streams that it may reset
    linger: float = 10.0  # a stream closed by us, which the peer does not finish


class ReceiveBudget:
    """Bytes received and not read, and the window granted above the first 256 KiB of each stream.

    A connection has one, whose parent is the process's. `hold` and `grant` change both or none.
    """

    def __init__(self, limit: int, parent: ReceiveBudget | None = None) -> None:
        if limit < INITIAL_WINDOW:
            raise ValueError("a receive budget holds at least one window")
        self.limit = limit
        self.held = 0
        self.granted = 0
        self._parent = parent

    def hold(self, count: int) -> bool:
        """Account for bytes that came. False, and nothing changed, when there is no room."""
        if self.held + count > self.limit or (self._parent and not self._parent.hold(count)):
            return False
        self.held += count
        return True

    def release(self, count: int) -> None:
        self.held -= count
        if self._parent:
            self._parent.release(count)

    def grant(self, count: int) -> bool:
        """Account for a larger window. False, and nothing changed, when there is no room."""
        if self.granted + count > self.limit or (self._parent and not self._parent.grant(count)):
            return False
        self.granted += count
        return True

    @property
    def room(self) -> int:
        """How much more may be granted."""
        own = max(0, self.limit - self.granted)
        return own if self._parent is None else min(own, self._parent.room)

    def revoke(self, count: int) -> None:
        self.granted -= count
        if self._parent:
            self._parent.revoke(count)

    def close(self) -> None:
        """The connection has ended: give all back to the process, whoever still holds a stream of it."""
        if self._parent:
            self._parent.release(self.held)
            self._parent.revoke(self.granted)
            self._parent = None
