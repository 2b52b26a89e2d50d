"""Hits of all tiers become the events of a search: one result a CID, and what is new about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from p2pshare.index.tiers import Hit, TierName
from p2pshare_protocols.index_messages import MAX_NAME, Row
from p2pshare_protocols.link import format_link
from p2pshare_protocols.query import Query
from p2pshare_protocols.query_rank import Rank, rank
from p2pshare_protocols.text import clean

Event = dict[str, Any]


@dataclass(slots=True)
class _Result:
    row: Row
    tier: TierName
    rank: Rank
    elapsed: float  # seconds until it was first told
    holders: set[str] = field(default_factory=set)


class Merge:
    """Hits in, events out: a CID is one result, its sources the distinct peers that say they hold it.

    With `shared` the own catalogue may take only half of `limit` at first; what is held back comes with `rest`, so that
    a large catalogue does not hide what others have.
    """

    def __init__(self, query: Query, limit: int, *, shared: bool, explain: bool) -> None:
        self._query = query
        self._limit = limit
        self._own_share = (limit + 1) // 2 if shared else limit
        self._explain = explain
        self._shown: dict[bytes, _Result] = {}
        self._held: dict[bytes, _Result] = {}
        self.left_out = False

    @property
    def count(self) -> int:
        return len(self._shown)

    @property
    def full(self) -> bool:
        return self.count >= self._limit

    def add(self, hit: Hit, elapsed: float) -> Event | None:
        """The event that this hit makes, `elapsed` seconds after the beginning; None when it says nothing new."""
        key = hit.row.cid.v1.binary
        known = self._shown.get(key)
        result = known or self._held.get(key)
        if result is None:
            result = _Result(hit.row, hit.tier, rank(self._query, hit.row.record()), elapsed)
        before = (len(result.holders), result.row.publisher)
        if hit.holder:
            result.holders.add(hit.holder)
        if not result.row.publisher and hit.row.publisher:
            result.row = replace(result.row, publisher=hit.row.publisher)
        if known is not None:
            changed = (len(result.holders), result.row.publisher) != before
            return self._event(result) | {"update": True} if changed else None
        return self._admit(key, result)

    def _admit(self, key: bytes, result: _Result) -> Event | None:
        if result.tier == "local" and self.count >= self._own_share:
            self._held[key] = result
            return None
        if self.full:
            self.left_out = True
            return None
        self._held.pop(key, None)
        self._shown[key] = result
        return self._event(result)

    def rest(self) -> list[Event]:
        """When all tiers are done: the held back results that there is room for."""
        room = self._limit - self.count
        for key, result in list(self._held.items())[:room]:
            self._shown[key] = result
        self.left_out |= len(self._held) > room
        return [self._event(result) for result in list(self._held.values())[:room]]

    def ordered(self, sort: str) -> list[Event]:
        """All results: by "name", or the most "sources", the largest "size", the "newest", the best "score" first."""
        keys: dict[str, Callable[[_Result], Any]] = {
            "size": lambda one: -one.row.size,
            "newest": lambda one: -one.row.created,
            "sources": lambda one: -len(one.holders),
            "name": lambda one: one.row.name.casefold(),
        }
        best = sorted(self._shown.values(), key=lambda one: -one.rank.score)
        return [self._event(one) for one in (sorted(best, key=keys[sort]) if sort in keys else best)]

    def _event(self, result: _Result) -> Event:
        row = result.row
        event: Event = {
            "event": "result",
            "cid": str(row.cid),
            "link": link_of(row),
            "name": clean(row.name, MAX_NAME),
            "size": row.size,
            "type": row.type,
            "publisher": row.publisher,
            "sources": len(result.holders),
            "tier": result.tier,
            "score": result.rank.score,
            "kind": row.kind,
        }
        if self._explain:
            event["why"] = _why(result)
        return event


def link_of(row: Row) -> str:
    """What `fetch` takes: inside a directory the item's link with the way into it, so that the item's sources serve."""
    if row.root is None:
        return format_link(row.cid, row.name)
    return format_link(row.root, row.path[0], path=row.path[1:])


def _why(result: _Result) -> str:
    count = len(result.holders)
    if result.tier == "local":
        where = "in your own catalogue" + (f", {count} sources" if count > 1 else "")
    else:
        sources = "1 source" if count == 1 else f"{count} sources"
        if not count:
            return f"{result.rank.why} · published, but no source is up now"
        where = f"{sources} answered in {max(1, round(result.elapsed * 1000))} ms"
    return f"{result.rank.why} · {where}"
