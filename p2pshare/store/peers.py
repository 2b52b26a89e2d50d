"""Peers met before, so that a restarted node finds the network again without asking anybody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from p2pshare.store.database import Database
from p2pshare.store.text import from_json, plain, to_json

MAX_PEERS: Final = 2000
MAX_ADDRESSES: Final = 16
MAX_ADDRESS: Final = 512  # characters of a multiaddr
MAX_ID: Final = 128


def bounded(addresses: Sequence[str]) -> list[str]:
    """The first addresses of a stranger's list that are worth keeping, each once."""
    fit = (plain(address) for address in addresses[: 4 * MAX_ADDRESSES] if 0 < len(address) <= MAX_ADDRESS)
    return list(dict.fromkeys(fit))[:MAX_ADDRESSES]


class Peers:
    """Not synced by itself: losing the last seconds of this in a power cut costs nothing."""

    def __init__(self, database: Database, *, most: int = MAX_PEERS) -> None:
        self._db = database
        self._most = most
        self._added = 0

    def remember(self, peer_id: str, addresses: Sequence[str], seen: float) -> None:
        """Keep at most 16 addresses of a peer; beyond 2000 peers those not seen for longest are forgotten."""
        if not 0 < len(peer_id) <= MAX_ID:
            return
        with self._db.relaxed():
            self._db.execute(
                "INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", (plain(peer_id), to_json(bounded(addresses)), seen)
            )
            self._added += 1
            if self._added % 50 == 1:
                self._prune()

    def _prune(self) -> None:
        self._db.execute(
            "DELETE FROM peers WHERE peer IN (SELECT peer FROM peers ORDER BY seen DESC LIMIT -1 OFFSET ?)",
            (self._most,),
        )

    def known(self, limit: int = 100) -> list[tuple[str, list[str], float]]:
        """(peer ID, addresses, last seen), most lately seen first."""
        rows = self._db.all(
            "SELECT peer, addresses, seen FROM peers ORDER BY seen DESC LIMIT ?", (min(limit, self._most),)
        )
        return [(peer, from_json(addresses), seen) for peer, addresses, seen in rows]

    def forget(self, peer_id: str) -> None:
        with self._db.relaxed():
            self._db.execute("DELETE FROM peers WHERE peer = ?", (plain(peer_id),))
