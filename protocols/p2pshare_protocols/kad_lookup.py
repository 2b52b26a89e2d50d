"""An iterative lookup: ask the nearest known nodes for nearer ones until the nearest have all answered.

    lookup = Lookup(target, seeds, pace=pace)
    while not lookup.done:
        for contact in lookup.next_queries(now): …send…
        …then on_reply(peer_id, closer, now) or on_failure(peer_id, now), or at next_deadline() just loop…
    lookup.found(20)

Why it is shaped so:
- A sliding window of `alpha` questions, never rounds: an answer is followed by the next question at once.
- A node that hangs holds its slot only until the pace's limit, a multiple of what answers took lately. It is then
  SLOW: the lookup no longer waits for it, but takes its answer when it still comes.
- Nothing a node says about others is believed until those others answer. Of one informant's candidates two may be
  in flight, one more for each that answered, one less for each that failed. An informant whose candidates fail is
  dropped, and with it every candidate that nobody else named. Once the window cannot be filled otherwise, the rule
  yields: it orders questions, it never starves them.
- With `paths` > 1 a candidate belongs to the path that first heard of it (S/Kademlia, Baumgart and Mies 2007), and
  each path must come to its own end, so that one liar cannot lead all of them. `widen` makes paths of a lookup that
  has ended: who answered is not asked again.
- With `bound` > 0 every known node nearer than that must answer, up to the caps of its shell (see kad_region).
- Who has been silent for longer than most answers take is doubtful: the next one behind is asked already, so that a
  node that hangs costs its time limit once and not again for each that takes its place.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from .kad_keys import Contact, K
from .kad_region import window

ALPHA = 10
MAX_TAKEN = K
"""Peers taken from one reply."""
SEEDS = 4 * K
"""Nodes to take from our own table: more than k, since the nearest may all be an attacker's, of which few are asked."""
MAX_CANDIDATES = 1024
FREE_PER_INFORMANT = 2
YIELD = 2
"""Candidates of doubtful informants in flight when there is nobody else to ask."""
DROP_AFTER = 4
"""Failed candidates after which an informant is dropped, when they are over three times those that answered. With a
fifth of all nodes dead, an honest one loses its first four with probability 0.0016."""


class Pace:
    """How long to wait for an answer: 1.75 times the 90th percentile of the last 64, within 0.25 and 5 seconds.

    `doubt` is that percentile itself. Before there are five samples, 1.5 s. The limit in force now counts, not the one
    when a question was asked. Late answers are samples too, so the limit grows when the network slows. Shared by the
    lookups of one node.
    """

    FIRST, LEAST, MOST = 1.5, 0.25, 5.0
    FACTOR = 1.75

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=64)
        self.limit = self.FIRST

    @property
    def doubt(self) -> float:
        return self.limit / self.FACTOR

    def sample(self, seconds: float) -> None:
        self._samples.append(seconds)
        if len(self._samples) >= 5:
            ordered = sorted(self._samples)
            self.limit = min(self.MOST, max(self.LEAST, self.FACTOR * ordered[len(ordered) * 9 // 10]))


class State(Enum):
    HEARD = auto()
    WAITING = auto()
    SLOW = auto()
    ANSWERED = auto()
    FAILED = auto()


@dataclass(slots=True)
class _Candidate:
    contact: Contact
    distance: int
    root: int  # the number of the seed that led to it: root % paths is its path
    informants: set[str] = field(default_factory=set)  # empty: from our own table
    state: State = State.HEARD
    asked: float = 0.0

    def __lt__(self, other: _Candidate) -> bool:
        return self.distance < other.distance


@dataclass(slots=True)
class _Informant:
    flying: int = 0
    answered: int = 0
    failed: int = 0
    dropped: bool = False

    @property
    def may_ask(self) -> bool:
        return self.flying < max(1, FREE_PER_INFORMANT + self.answered - self.failed)


class Lookup:
    """One lookup of `target`, a key. `seeds` come from our table. Time is seconds.

    `salt` is a secret of ours, random bytes: who of a shell that is too full is asked depends on it.
    """

    def __init__(
        self,
        target: int,
        seeds: Iterable[Contact],
        *,
        own_id: str = "",
        pace: Pace | None = None,
        k: int = K,
        alpha: int = ALPHA,
        paths: int = 1,
        bound: int = 0,
        salt: bytes = b"",
    ) -> None:
        self.target = target
        self.k = k
        self.queries = 0
        self._own_id = own_id
        self._pace = pace or Pace()
        self._alpha = alpha
        self._paths = max(1, paths)
        self._bound = bound
        self._salt = salt
        self._by_id: dict[str, _Candidate] = {}
        self._order: list[_Candidate] = []
        self._informants: dict[str, _Informant] = {}
        self._waiting: set[str] = set()
        self._now = float("-inf")
        self._lies = False  # whether any informant was dropped
        self._must: list[_Candidate] | None = None  # what `_needed` gave, until somebody comes or falls out
        for number, contact in enumerate(seeds):
            self._hear(contact, number, None)

    @property
    def done(self) -> bool:
        """Whether every node that must answer has answered, failed or become slow."""
        return all(candidate.state is State.ANSWERED for candidate in self._needed())

    def widen(self, paths: int) -> None:
        """From now on the end is that of so many disjoint paths, if it was of fewer."""
        self._paths = max(self._paths, paths)
        self._must = None

    def known(self, peer_id: str) -> Contact | None:
        """What was heard of a peer already."""
        candidate = self._by_id.get(peer_id)
        return None if candidate is None else candidate.contact

    def next_queries(self, now: float) -> list[Contact]:
        """The nodes to ask now; they count as asked. Call again after every event and at `next_deadline()`."""
        self._expire(now)
        self._now = now
        free = self._alpha - len(self._waiting)
        if free <= 0:
            return []
        chosen: list[_Candidate] = []
        later: list[_Candidate] = []
        for candidate in self._needed(now - self._pace.doubt):
            if candidate.state is not State.HEARD:
                continue
            if self._may_ask(candidate):
                self._ask(candidate, now, chosen)
                if len(chosen) == free:
                    return [candidate.contact for candidate in chosen]
            else:
                later.append(candidate)
        if later:
            self._ask_past(len(later), free, now, chosen)
        for candidate in later:
            if len(self._waiting) >= YIELD:
                break
            if candidate.state is State.HEARD:  # nothing else can bring us on
                self._ask(candidate, now, chosen)
        return [candidate.contact for candidate in chosen]

    def _ask_past(self, blocked: int, free: int, now: float, chosen: list[_Candidate]) -> None:
        """Candidates that must wait for their informant hold no places: ask as many of those behind them."""
        for behind, candidate in enumerate(self._alive(), 1):
            if behind > self.k + blocked or len(chosen) >= free:
                return
            if behind > self.k and candidate.state is State.HEARD and self._may_ask(candidate):
                self._ask(candidate, now, chosen)

    def on_reply(self, peer_id: str, closer: Iterable[Contact], now: float) -> None:
        """`peer_id` answered with these nodes. Answers of nodes that were not asked are ignored."""
        candidate = self._by_id.get(peer_id)
        if candidate is None or candidate.state not in (State.WAITING, State.SLOW):
            return
        self._pace.sample(now - candidate.asked)
        self._settle(candidate, State.ANSWERED)
        for taken, contact in enumerate(closer):
            if taken == MAX_TAKEN:
                break
            self._hear(contact, candidate.root, peer_id)

    def on_failure(self, peer_id: str, now: float) -> None:
        """`peer_id` could not be asked, or answered with rubbish, or the caller's own hard limit passed."""
        candidate = self._by_id.get(peer_id)
        if candidate is not None and candidate.state in (State.WAITING, State.SLOW):
            self._settle(candidate, State.FAILED)
        self._expire(now)

    def drop(self, peer_id: str) -> None:
        """A liar was found out: forget it and every candidate that only it, or only liars, named."""
        candidate = self._by_id.get(peer_id)
        if candidate is not None:
            self._settle(candidate, State.FAILED)
        self._drop_informant(peer_id)

    def next_deadline(self) -> float | None:
        """When the next of the nodes asked becomes doubtful or slow, or None when none is being waited for."""
        asked = [self._by_id[peer_id].asked for peer_id in self._waiting]
        if not asked:
            return None
        doubts = [at for moment in asked if (at := moment + self._pace.doubt) > self._now]
        return min([min(asked) + self._pace.limit, *doubts])

    def found(self, count: int | None = None) -> list[Contact]:
        """The nodes that answered, nearest first."""
        answered = [candidate.contact for candidate in self._order if candidate.state is State.ANSWERED]
        return answered if count is None else answered[:count]

    def region(self) -> list[Contact]:
        """Where a record belongs: those that answered under the bound, as far as the shells' caps allow, at least k."""
        answered = (candidate for candidate in self._order if candidate.state is State.ANSWERED)
        return [candidate.contact for candidate in self._window(answered)]

    def _window(self, candidates: Iterable[_Candidate]) -> Iterator[_Candidate]:
        """Those of `candidates`, which are in order of distance, that belong to the region."""
        nearest = ((candidate.distance, candidate) for candidate in candidates)
        return (candidate for _, candidate in window(nearest, self._bound, self.k, salt=self._salt))

    def _alive(self) -> Iterator[_Candidate]:
        failed, slow = State.FAILED, State.SLOW
        alive = (c for c in self._order if c.state is not failed and c.state is not slow)
        return (c for c in alive if not self._orphan(c)) if self._lies else alive

    def _needed(self, doubted: float = float("-inf")) -> list[_Candidate]:
        """Those that must answer before the end: over all paths together, and on each path its nearest share.

        Who was asked before `doubted` and did not answer is left out. Worked out anew only when it may have changed:
        an answer that names nobody new leaves it as it is.
        """
        if any(self._by_id[peer_id].asked <= doubted for peer_id in self._waiting):
            return self._nearest(c for c in self._alive() if c.state is not State.WAITING or c.asked > doubted)
        if self._must is None:
            self._must = self._nearest(self._alive())
        return self._must

    def _nearest(self, trusted: Iterator[_Candidate]) -> list[_Candidate]:
        if self._paths == 1:
            return list(self._window(trusted))
        alive = list(trusted)
        window = list(self._window(alive))
        share = -(-self.k // self._paths)
        named = {id(candidate) for candidate in window}
        held: Counter[int] = Counter()
        for candidate in alive:
            path = candidate.root % self._paths
            if held[path] < share:
                held[path] += 1
                named.add(id(candidate))
        return [candidate for candidate in alive if id(candidate) in named]

    def _live_informants(self, candidate: _Candidate) -> Iterator[_Informant]:
        return (i for i in map(self._informants.__getitem__, candidate.informants) if not i.dropped)

    def _orphan(self, candidate: _Candidate) -> bool:
        """Named by liars only, and has not proved itself."""
        if not candidate.informants or candidate.state is State.ANSWERED:
            return False
        return all(self._informants[peer_id].dropped for peer_id in candidate.informants)

    def _may_ask(self, candidate: _Candidate) -> bool:
        return not candidate.informants or any(i.may_ask for i in self._live_informants(candidate))

    def _ask(self, candidate: _Candidate, now: float, chosen: list[_Candidate]) -> None:
        candidate.state, candidate.asked = State.WAITING, now
        self._waiting.add(candidate.contact.peer_id)
        for informant in self._live_informants(candidate):
            informant.flying += 1
        self.queries += 1
        chosen.append(candidate)

    def _expire(self, now: float) -> None:
        for peer_id in [p for p in self._waiting if self._by_id[p].asked + self._pace.limit <= now]:
            self._settle(self._by_id[peer_id], State.SLOW)

    def _settle(self, candidate: _Candidate, state: State) -> None:
        before, candidate.state = candidate.state, state
        if state is not State.ANSWERED or before is State.SLOW or self._lies:
            self._must = None
        self._waiting.discard(candidate.contact.peer_id)
        for peer_id in candidate.informants:
            informant = self._informants[peer_id]
            informant.flying -= before is State.WAITING and informant.flying > 0
            if state is State.ANSWERED:
                informant.answered += 1
                informant.failed -= before is State.SLOW and informant.failed > 0
            elif before not in (State.SLOW, State.FAILED):
                informant.failed += 1
            if informant.failed >= DROP_AFTER and informant.failed > 3 * informant.answered:
                self._drop_informant(peer_id)

    def _drop_informant(self, peer_id: str) -> None:
        informant = self._informants.setdefault(peer_id, _Informant())
        informant.dropped = self._lies = True
        self._must = None
        for waiting in [p for p in self._waiting if self._orphan(self._by_id[p])]:
            self._by_id[waiting].state = State.SLOW
            self._waiting.discard(waiting)

    def _hear(self, contact: Contact, root: int, informant: str | None) -> None:
        if contact.peer_id == self._own_id:
            return
        candidate = self._by_id.get(contact.peer_id)
        if candidate is not None:
            if informant is not None and candidate.state is State.HEARD and candidate.informants:
                self._informants.setdefault(informant, _Informant())
                candidate.informants.add(informant)
                if self._lies:
                    self._must = None  # it may be no orphan any more
            return
        candidate = _Candidate(contact, contact.key ^ self.target, root)
        if informant is not None:
            self._informants.setdefault(informant, _Informant())
            candidate.informants.add(informant)
        self._by_id[contact.peer_id] = candidate
        insort(self._order, candidate)
        self._must = None
        if len(self._order) > MAX_CANDIDATES:
            self._forget_farthest()

    def _forget_farthest(self) -> None:
        for at in range(len(self._order) - 1, -1, -1):
            candidate = self._order[at]
            if candidate.state in (State.HEARD, State.FAILED):
                del self._order[at]
                del self._by_id[candidate.contact.peer_id]
                self._must = None
                return
