"""The verb: words -> query -> tiers, all at once -> one stream of results, merged by CID as they arrive.

A tier is a place to ask (p2pshare/index/tiers.py): the own catalogue, the connected peers and, in a later issue, the
DHT. It stands in the list that the node passes to `search`; nothing here needs to change for another one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from p2pshare.errors import UsageError
from p2pshare.index.merge import Event, Merge
from p2pshare.index.tiers import Answers, CatalogueTier, Hit, PeerTier, Question, Tier
from p2pshare_protocols.query import Query, QueryError, parse

__all__ = ["CatalogueTier", "PeerTier", "Tier", "read_query", "search"]

_GRACE: Final = 1.0  # seconds that sources are still counted after the last result that was asked for
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
) -> Event:
    """Ask all tiers; emit a "result" event (EXPERIENCE, "JSON") for each find as it arrives, at most `limit`, and one
    with "update": true when more peers turn out to hold it. Returns the "done" event.

    With `sort` other than "score" the results wait for each other and come in that order, without updates. Only one
    call of `emit` is under way at a time. Raises LocalError of the own catalogue and whatever `emit` raises.
    """
    begin = trio.current_time()
    asked = [tier for tier in tiers if tier.name == "local" or not local]
    send, receive = trio.open_memory_channel[Hit](_WAITING)
    answers = [Answers(tier.name, send) for tier in asked]
    merge = Merge(query, limit, shared=len(asked) > 1, explain=explain)
    scope = trio.CancelScope(deadline=begin + timeout)
    streaming = sort == "score"
    try:
        async with trio.open_nursery() as nursery:
            question = Question(query, limit, timeout)
            nursery.start_soon(_ask_all, list(zip(asked, answers, strict=True)), question, send, scope)
            async with receive:
                async for hit in receive:
                    event = merge.add(hit, trio.current_time() - begin)
                    if event is not None and streaming:
                        await emit(event)
                    if merge.full:
                        scope.deadline = min(scope.deadline, trio.current_time() + _GRACE)
    except BaseExceptionGroup as group:
        raise _single(group) from None
    rest = merge.rest()
    for event in rest if streaming else merge.ordered(sort):
        await emit(event)
    return {
        "event": "done",
        "results": merge.count,
        "nodes": sum(one.nodes for one in answers),
        "elapsed": round(trio.current_time() - begin, 3),
        "complete": all(one.complete for one in answers) and not merge.left_out and not scope.cancelled_caught,
    }


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
                await tier.ask(question, answers)
        async with trio.open_nursery() as nursery:
            for tier, answers in asked:
                if tier.name != "local":
                    nursery.start_soon(tier.ask, question, answers)


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in groups of one; else the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
