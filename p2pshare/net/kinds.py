"""What each peer was seen to speak, so that the next dial to it need not ask again. No I/O in here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

MAX_KNOWN = 4096  # peers
BELIEVED_SECONDS = 7 * 86400.0  # then a dial asks again: the peer may speak something better by now


@dataclass(frozen=True, slots=True)
class Kind:
    """session: what the peer agreed to. ours: it is one of our own nodes. learned: wall-clock time, in seconds."""

    session: str
    ours: bool
    learned: float


class KnownPeers:
    """Kinds of peers; the least lately heard of go first. `clock` gives wall-clock time; `forgotten` is told who
    turned out to be something else."""

    def __init__(self, clock: Callable[[], float], forgotten: Callable[[str], None] = lambda peer_id: None) -> None:
        self._clock = clock
        self._forgotten = forgotten
        self._kinds: dict[str, Kind] = {}

    def learn(self, peer_id: str, session: str, *, ours: bool) -> None:
        """What was known already keeps its age, so that it is asked for again some day."""
        known = self.of(peer_id)
        if known is None or known.session != session:
            known = Kind(session, ours, self._clock())
        self._put(peer_id, known if known.ours == ours else replace(known, ours=ours))

    def restore(self, kinds: Iterable[tuple[str, str, bool, float]]) -> None:
        """(peer ID, session, ours, learned) of an earlier run, the most lately heard of last."""
        for peer_id, session, ours, learned in kinds:
            self._put(peer_id, Kind(session, ours, learned))

    def _put(self, peer_id: str, kind: Kind) -> None:
        self._kinds.pop(peer_id, None)
        self._kinds[peer_id] = kind
        if len(self._kinds) > MAX_KNOWN:
            del self._kinds[next(iter(self._kinds))]

    def forget(self, peer_id: str) -> None:
        if self._kinds.pop(peer_id, None) is not None:
            self._forgotten(peer_id)

    def of(self, peer_id: str) -> Kind | None:
        """None when it is not known, or was learned too long ago (or in the future: a clock was set)."""
        kind = self._kinds.get(peer_id)
        if kind is None or not 0 <= self._clock() - kind.learned < BELIEVED_SECONDS:
            return None
        return kind
