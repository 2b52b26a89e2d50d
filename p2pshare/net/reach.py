"""Whether others can reach this node, from what they proved or said. `now` is in seconds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import trio

from p2pshare.net.api import Reachability

State = Literal["direct", "no", "unknown"]

WITNESSES = 3  # that must agree, or as many as there are; the specification suggests "more than 3"
MAX_CONFIRMED = 4
KEPT = 8  # newest statements; one of each peer
LASTS = 3 * 3600.0


class Reach:
    """What is known of our reachability now, and the addresses at which others have reached us."""

    def __init__(self) -> None:
        self.now = Reachability("private", "nobody was met yet")
        self.confirmed: dict[str, None] = {}
        self._changed = trio.Event()

    def set(self, found: Reachability) -> bool:
        """True when our addresses changed: one that nobody reaches has none but those of its interfaces."""
        if found != self.now:
            self.now = found
            self._changed.set()
            self._changed = trio.Event()
        lost = found.state == "no" and bool(self.confirmed)
        if lost:
            self.confirmed.clear()
        return lost

    def confirm(self, address: str) -> bool:
        """True when it is new."""
        if address in self.confirmed or len(self.confirmed) >= MAX_CONFIRMED:
            return False
        self.confirmed[address] = None
        return True

    async def changed(self, known: Reachability) -> None:
        await trio.lowlevel.checkpoint()
        while self.now == known:
            await self._changed.wait()


@dataclass(slots=True)
class Verdict:
    """What peers found. A success is proven by a nonce that came back to us; a failure is only said."""

    _said: OrderedDict[str, tuple[bool, float]] = field(default_factory=OrderedDict)
    state: State = "unknown"

    def add(self, peer_id: str, reached: bool, now: float) -> None:
        self._said.pop(peer_id, None)
        self._said[peer_id] = (reached, now)
        if len(self._said) > KEPT:
            self._said.popitem(last=False)

    def judge(self, servers: int, now: float) -> State:
        """With so many peers at hand that can be asked. What is neither shown nor refuted stays as it was."""
        fresh = [reached for reached, when in self._said.values() if now - when < LASTS]
        yes, needed = sum(fresh), max(1, min(WITNESSES, servers))
        no = len(fresh) - yes
        if yes >= needed and yes >= no:
            self.state = "direct"
        elif no >= needed and no > yes:
            self.state = "no"
        elif not fresh:
            self.state = "unknown"
        return self.state
