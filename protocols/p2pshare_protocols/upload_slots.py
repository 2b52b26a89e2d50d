"""Who may be sent blocks now, and who waits. Pure: `now` (seconds, any monotonic clock) is an argument.

A peer keeps its slot while nobody waits. When others wait it has a turn of TURN seconds and then goes to the end of the
queue. A slot that is free goes to who was sent the least lately, so that all come to the same sum; one more, the
optimistic one, to who has waited longest, so that nobody waits behind many small askers for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TURN: Final = 30.0
MAX_REMEMBERED: Final = 1024  # peers whose sums are kept


@dataclass(slots=True)
class _Slot:
    since: float
    optimistic: bool


class UploadSlots:
    """`slots` ordinary ones, at least 1, and the optimistic one."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"{slots} upload slots")
        self._slots = slots
        self._holders: dict[str, _Slot] = {}
        self._queue: dict[str, None] = {}  # in the order of coming
        self._sent: dict[str, float] = {}  # bytes, halved every TURN
        self._halved = 0.0

    def want(self, peer: str, now: float) -> bool:
        """Whether the peer has a slot; when not, it waits in the queue from now on."""
        if peer not in self._holders:
            self._queue.setdefault(peer)
        self._settle(now)
        return peer in self._holders

    def leave(self, peer: str, now: float) -> None:
        """It wants nothing now."""
        self._holders.pop(peer, None)
        self._queue.pop(peer, None)
        self._settle(now)

    def place(self, peer: str) -> int:
        """From 1 on in the queue; 0 when it does not wait."""
        for place, waiting in enumerate(self._queue, 1):
            if waiting == peer:
                return place
        return 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def sent(self, peer: str, count: int) -> None:
        """Bytes that it was sent."""
        if peer in self._sent or len(self._sent) < MAX_REMEMBERED:
            self._sent[peer] = self._sent.get(peer, 0.0) + count

    def _settle(self, now: float) -> None:
        if now - self._halved >= TURN:
            self._halved = now
            self._sent = {peer: count / 2 for peer, count in self._sent.items() if count > 1 << 16}
        over = [peer for peer, slot in self._holders.items() if now - slot.since >= TURN]
        free = self._slots + 1 - len(self._holders)
        for peer in over[: max(0, len(self._queue) - free)]:
            del self._holders[peer]
            self._queue[peer] = None
        while self._queue and len(self._holders) <= self._slots:
            optimistic = not any(slot.optimistic for slot in self._holders.values())
            ordinary = len(self._holders) - (not optimistic) < self._slots
            if ordinary:
                chosen, optimistic = min(self._queue, key=lambda peer: self._sent.get(peer, 0.0)), False
            else:
                chosen = next(iter(self._queue))
            del self._queue[chosen]
            self._holders[chosen] = _Slot(now, optimistic)
