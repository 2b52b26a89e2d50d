"""The verb: words -> query -> tiers, all at once -> one stream of results, merged by CID as they arrive.

A tier is a place to ask (p2pshare/index/tiers.py): the own catalogue, the connected peers, the DHT. It stands in the
list that the node passes to `search`; nothing here needs to change for another one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from p2pshare.errors import UsageError
from p2pshare.index.merge import Event, Merge
from p2pshare.index.people import People
from p2pshare.index.tiers import Answers, CatalogueTier, Hit, PeerTier, Question, Tier
from p2pshare_protocols.query import Query, QueryError, parse

__all__ = ["CatalogueTier", "PeerTier", "Tier", "read_query", "search"]

_GRACE: Final = 1.0  # seconds that sources are still counted after the last result that was asked for
_SETTLE: Final = 0.2  # seconds from the beginning, in which results wait for better ones and for who has them,
_GATHER: Final = 0.05  # and seconds that each waits at least, so that those that come together are told in their order
_WAITING: Final = 64  # hits that may wait for a slow client before the tiers wait too

Emit = Callable[[Event], Awaitable[None]]


def read_query(text: str, now: float, **flags: str | None) -> Query:
    """`query.parse` for a request: `now` in unix seconds, flags as the CLI has them. Raises UsageError."""
    try:
        return parse(text, now=now, **flags)
    except QueryError as error:
        raise UsageError(str(error), hint="docs/search.md explains the query language") from None


async def search(
    tiers: Sequence[Tier],
    query: Query,
    emit: Emit,
    *,
    limit: int = 50,
    timeout: float = 10.0,
    sort: str = "score",
    local: bool = False,
    explain: bool = False,
    people: People | None = None,
    now: float | None = None,
    everything: bool = False,
) -> Event:
    """Ask all tiers; emit a "result" event (EXPERIENCE, "JSON") for each find, at most `limit`, and one with
    "update": true when something about it turns out to be new. Returns the "done" event.

    Results that came together are told best first. With `sort` other than "score" all wait for each other and come in
    that order, without updates. With `everything` the network is asked further than usual. `people` tells how
    publishers stand with us; `now` in unix seconds. Only one call of `emit` is under way at a time. Raises LocalError
    of the own catalogue and whatever `emit` raises. Cancelled, it resets the streams on which it asks.
    """
    begin = trio.current_time()
    asked = [tier for tier in tiers if tier.name == "local" or not local]
    send, receive = trio.open_memory_channel[Hit](_WAITING)
    answers = [Answers(tier.name, send) for tier in asked]
    wall = time.time() if now is None else now
    merge = Merge(query, limit, shared=len(asked) > 1, explain=explain, now=wall, people=people)
    scope = trio.CancelScope(deadline=begin + timeout)
    streaming = sort == "score"
    try:
        async with trio.open_nursery() as nursery:
            question = Question(query, limit, timeout, everything)
            nursery.start_soon(_ask_all, list(zip(asked, answers, strict=True)), question, send, scope)
            async with receive:
                await _listen(receive, merge, scope, begin, emit if streaming else None)
    except BaseExceptionGroup as group:
        raise _single(group) from None
    for event in merge.show(end=True) if streaming else merge.ordered(sort):
        await emit(event)
    missing = [reason for one in answers for reason in one.missing()]
    if merge.left_out:
        missing.append(f"limit: {merge.found} results were found, {merge.count} are told")
    return {
        "event": "done",
        "results": merge.count,
        "nodes": sum(one.nodes for one in answers),
        "elapsed": round(trio.current_time() - begin, 3),
        "complete": not missing,
        "missing": missing,
    }


async def _listen(
    hits: trio.MemoryReceiveChannel[Hit],
    merge: Merge,
    scope: trio.CancelScope,
    begin: float,
    emit: Emit | None,
) -> None:
    """Until the tiers are done. Results are told in groups, a moment after they came; without `emit` never."""
    due = math.inf
    while True:
        try:
            with trio.move_on_at(due) as late:
                hit = await hits.receive()
        except trio.EndOfChannel:
            return
        if late.cancelled_caught:
            due = math.inf
            for event in merge.show():
                assert emit is not None
                await emit(event)
        else:
            update = merge.add(hit, trio.current_time() - begin)
            if emit is not None:
                due = min(due, max(begin + _SETTLE, trio.current_time() + _GATHER))
                if update is not None:
                    await emit(update)
        if merge.full or (emit is None and merge.found >= merge.limit):
            scope.deadline = min(scope.deadline, trio.current_time() + _GRACE)


async def _ask_all(
    asked: Sequence[tuple[Tier, Answers]],
    question: Question,
    send: trio.MemorySendChannel[Hit],
    scope: trio.CancelScope,
) -> None:
    """The own catalogue first, since it answers at once; the others side by side. Closes the channel of hits."""
    with send, scope:
        for tier, answers in asked:
            if tier.name == "local":
                await _ask(tier, question, answers)
        async with trio.open_nursery() as nursery:
            for tier, answers in asked:
                if tier.name != "local":
                    nursery.start_soon(_ask, tier, question, answers)


async def _ask(tier: Tier, question: Question, answers: Answers) -> None:
    await tier.ask(question, answers)
    answers.ended = True


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in groups of one; else the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
