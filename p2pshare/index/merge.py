"""Hits of all tiers become the events of a search: one result a CID, ranked here, and what is new about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from p2pshare.index.people import People
from p2pshare.index.tiers import Hit, TierName
from p2pshare_protocols import result_rank
from p2pshare_protocols.index_messages import MAX_NAME, Row
from p2pshare_protocols.link import format_link
from p2pshare_protocols.query import Query
from p2pshare_protocols.query_rank import Rank, rank
from p2pshare_protocols.result_rank import STANDS, Evidence, Place, Stand
from p2pshare_protocols.text import clean
from p2pshare_protocols.versions import bundle_of

Event = dict[str, Any]

_MOST: Final = 5000  # results that a search keeps; what comes beyond is left out
_ALSO: Final = 16  # other names and versions that are told with a result
_PUBLISHERS: Final = 256  # of one result that are counted


@dataclass(slots=True)
class _Result:
    row: Row
    tier: TierName
    rank: Rank
    elapsed: float  # seconds until it was first told
    bundle: str
    holders: set[str] = field(default_factory=set)
    subnets: set[str] = field(default_factory=set)
    publishers: dict[str, str] = field(default_factory=dict)  # peer ID -> the subnet it stood in, "" when not known
    signed: set[str] = field(default_factory=set)  # publishers whose signatures were checked
    names: dict[str, Row] = field(default_factory=dict)  # other names of the same content
    stand: Stand = ""
    crowded: bool = False
    told: Event | None = None
    weighed: float | None = None  # the score, until something is new

    def take(self, hit: Hit, stand: Stand) -> None:
        self.weighed = None
        if hit.holder:
            self.holders.add(hit.holder)
        if hit.subnet:
            self.subnets.add(hit.subnet)
        if hit.row.publisher:
            self._publisher(hit, stand)
        if hit.row.name != self.row.name and len(self.names) < _ALSO:
            self.names.setdefault(hit.row.name, hit.row)

    def _publisher(self, hit: Hit, stand: Stand) -> None:
        """Rows of the DHT are signed; peers say of themselves that they publish, under the node's name."""
        publisher, signed = hit.row.publisher, hit.tier == "dht"
        if publisher in self.publishers or len(self.publishers) < _PUBLISHERS:
            subnet = hit.subnet if hit.holder == publisher else ""
            self.publishers[publisher] = self.publishers.get(publisher) or subnet
        better = (STANDS[stand], signed) > (STANDS[self.stand], bool(self.signed))
        if not self.row.publisher or better:
            self.row, self.stand = replace(self.row, publisher=publisher), stand
        if signed and len(self.signed) < _PUBLISHERS:
            self.signed.add(publisher)

    @property
    def independent(self) -> int:
        """Publishers in subnets of their own; one when no subnet is known."""
        return max(1, len(set(filter(None, self.publishers.values()))))

    def parts(self, now: float) -> dict[str, float]:
        evidence = Evidence(
            match=self.rank.score,
            sources=len(self.holders),
            publisher=self.stand,
            held=self.tier == "local",
            publishers=self.independent,
            age=now - self.row.created if self.row.created else None,
        )
        found = result_rank.parts(evidence)
        if self.crowded:
            found["crowded"] = round(-(1 - result_rank.CROWDED) * sum(found.values()), 4)
        return found

    def score(self, now: float) -> float:
        if self.weighed is None:
            self.weighed = round(sum(self.parts(now).values()), 4)
        return self.weighed

    def order(self, now: float) -> tuple[float, str, str]:
        """Sorts the best first. Among equals the name decides, never who answered first."""
        return -self.score(now), self.row.name.casefold(), str(self.row.cid)

    def place(self) -> Place:
        return Place(() if self.stand or self.tier == "local" else tuple(self.subnets), self.bundle)


_SORTS: Final[dict[str, Callable[[_Result], Any]]] = {
    "size": lambda one: -one.row.size,
    "newest": lambda one: -one.row.created,
    "sources": lambda one: -len(one.holders),
    "name": lambda one: one.row.name.casefold(),
}


class Merge:
    """Hits in, events out: a CID is one result, its sources the distinct peers that say they hold it.

    Results wait until `show`, which tells the best of them first. With `shared` the own catalogue may take only half of
    `limit` before the end, so that a large catalogue does not hide what others have; and what would crowd a page
    (`result_rank.crowding`) waits for the end. `now`: unix seconds.
    """

    def __init__(
        self, query: Query, limit: int, *, shared: bool, explain: bool, now: float, people: People | None = None
    ) -> None:
        self._query = query
        self.limit = limit
        self._own_share = (limit + 1) // 2 if shared else limit
        self._explain = explain
        self._now = now
        self._people = people
        self._results: dict[bytes, _Result] = {}
        self._shown: list[_Result] = []
        self._waiting: dict[bytes, _Result] = {}
        self._bundles: dict[str, list[_Result]] = {}
        self.left_out = False

    @property
    def count(self) -> int:
        """Results that were told."""
        return len(self._shown)

    @property
    def found(self) -> int:
        return len(self._results)

    @property
    def full(self) -> bool:
        return self.count >= self.limit

    def add(self, hit: Hit, elapsed: float) -> Event | None:
        """A hit, `elapsed` seconds after the beginning. The event with "update": true when its result was told and
        something about it is new; None else."""
        key = hit.row.cid.v1.binary
        result = self._results.get(key)
        if result is None:
            if len(self._results) >= _MOST:
                self.left_out = True
                return None
            result = _Result(hit.row, hit.tier, rank(self._query, hit.row.record()), elapsed, bundle_of(hit.row.name))
            self._results[key] = self._waiting[key] = result
            self._bundles.setdefault(result.bundle, []).append(result)
        result.take(hit, "" if self._people is None else self._people.stand(hit.row.publisher))
        return self._update(result) if result.told is not None else None

    def show(self, *, end: bool = False) -> list[Event]:
        """The events of results that are told now, best first. At the `end` all that there is room for, and
        whatever is new about those that were told."""
        best = sorted(self._waiting.items(), key=lambda one: one[1].order(self._now))
        places = [one.place() for one in self._shown] + [one.place() for _, one in best]
        moved = {number - len(self._shown) for number in result_rank.crowding(places)}
        own = sum(one.tier == "local" for one in self._shown)
        first: list[tuple[bytes, _Result]] = []
        later: list[tuple[bytes, _Result]] = []
        for number, (key, result) in enumerate(best):
            own += result.tier == "local"
            held = number in moved or (result.tier == "local" and own > self._own_share)
            (later if held else first).append((key, result))
        new = (first + later if end else first)[: max(0, self.limit - self.count)]
        for key, result in new:
            del self._waiting[key]
            self._shown.append(result)
        self.left_out |= end and bool(self._waiting)
        updates = self._crowd() if end else []
        return [self._tell(result) for _, result in new] + updates

    def _crowd(self) -> list[Event]:
        """Now that everything is known: what is too much of a kind stands behind the others."""
        best = sorted(self._shown, key=lambda one: one.order(self._now))
        for number in result_rank.crowding([one.place() for one in best]):
            best[number].crowded, best[number].weighed = True, None
        return [event for one in self._shown if one.told is not None and (event := self._update(one)) is not None]

    def ordered(self, sort: str) -> list[Event]:
        """All results: by "name", or the most "sources", the largest "size", the "newest", the best "score" first."""
        self.show(end=True)
        best = sorted(self._shown, key=lambda one: one.order(self._now))
        return [self._tell(one) for one in (sorted(best, key=_SORTS[sort]) if sort in _SORTS else best)]

    def _update(self, result: _Result) -> Event | None:
        before = result.told
        event = self._tell(result)
        return None if event == before else event | {"update": True}

    def _tell(self, result: _Result) -> Event:
        result.told = event = self._event(result)
        if self._people is not None:
            self._people.shown(str((result.row.root or result.row.cid).v1), result.row.publisher)
        return event

    def _event(self, result: _Result) -> Event:
        row = result.row
        event: Event = {
            "event": "result",
            **_shown(row),
            "type": row.type,
            "publisher": row.publisher,
            "publishers": len(result.signed or result.publishers),
            "sources": len(result.holders),
            "tier": result.tier,
            "score": result.score(self._now),
            "kind": row.kind,
        }
        versions = self._bundles[result.bundle]
        if len(versions) > 1:
            event["bundle"] = clean(result.bundle, MAX_NAME)
        others = [*result.names.values(), *(one.row for one in versions if one is not result)][:_ALSO]
        if others:
            event["also"] = [_shown(other) for other in others]
        if self._explain:
            event["why"] = _why(result)
            event["parts"] = result.parts(self._now)
        return event


def _shown(row: Row) -> Event:
    return {"cid": str(row.cid), "link": link_of(row), "name": clean(row.name, MAX_NAME), "size": row.size}


def link_of(row: Row) -> str:
    """What `fetch` takes: inside a directory the item's link with the way into it, so that the item's sources serve."""
    if row.root is None:
        return format_link(row.cid, row.name)
    return format_link(row.root, row.path[0], path=row.path[1:])


def _why(result: _Result) -> str:
    reasons = [result.rank.why, _sources(result)]
    if result.stand in ("trusted", "known"):
        reasons.append(f"publisher {result.stand}")
    if result.independent > 1:
        reasons.append(f"{result.independent} independent publishers")
    if result.crowded:
        reasons.append("more of the same")
    return " · ".join(filter(None, reasons))


def _sources(result: _Result) -> str:
    count = len(result.holders)
    if result.tier == "local":
        return "in your own catalogue" + (f", {count} sources" if count > 1 else "")
    if not count:
        return "published, but no source is up now"
    sources = "1 source" if count == 1 else f"{count} sources"
    return f"{sources} answered in {max(1, round(result.elapsed * 1000))} ms"
