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
MAX_SESSION: Final = 128  # characters of a protocol's name


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
                "INSERT INTO peers (peer, addresses, seen) VALUES (?, ?, ?)"
                " ON CONFLICT (peer) DO UPDATE SET addresses = excluded.addresses, seen = excluded.seen",
                (plain(peer_id), to_json(bounded(addresses)), seen),
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

    def spoke(self, peer_id: str, session: str, ours: bool, learned: float) -> None:
        """Keep the session that a remembered peer spoke, whether it is one of our own nodes, and since when that is
        known; session "" forgets it. Of a peer that is not remembered nothing is kept.
        """
        if len(session) > MAX_SESSION:
            return
        with self._db.relaxed():
            self._db.execute(
                "UPDATE peers SET session = ?, ours = ?, learned = ? WHERE peer = ?"
                " AND (session, ours, learned) IS NOT (?, ?, ?)",
                (session, ours, learned, plain(peer_id), session, ours, learned),
            )

    def spoken(self) -> list[tuple[str, str, bool, float]]:
        """(peer ID, session, ours, learned) of those of whom it is known, most lately seen first."""
        rows = self._db.all(
            "SELECT peer, session, ours, learned FROM peers WHERE session <> '' ORDER BY seen DESC LIMIT ?",
            (self._most,),
        )
        return [(peer, session, bool(ours), learned) for peer, session, ours, learned in rows]

    def forget(self, peer_id: str) -> None:
        with self._db.relaxed():
            self._db.execute("DELETE FROM peers WHERE peer = ?", (plain(peer_id),))
