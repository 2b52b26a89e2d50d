"""Peers that broke the protocol's rules: they are not asked again for a while."""

from __future__ import annotations

from collections import OrderedDict

import trio

REMEMBERED = 3600.0
"""Seconds. Whoever was mended meanwhile gets another chance."""
MOST = 1000


class Wrong:
    """The latest 1,000. A stranger with more names than that makes room for itself by nothing but new wrongs."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def add(self, peer_id: str) -> None:
        self._until.pop(peer_id, None)
        self._until[peer_id] = trio.current_time() + REMEMBERED
        if len(self._until) > MOST:
            self._until.popitem(last=False)

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, peer_id: str) -> bool:
        until = self._until.get(peer_id)
        if until is None:
            return False
        if until > trio.current_time():
            return True
        del self._until[peer_id]
        return False
