"""The own catalogue's answer to a query, as rows of the index protocol."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import trio

from p2pshare.store import FoundRow, FoundRows, Store
from p2pshare_protocols.index_messages import MAX_LIMIT, Row
from p2pshare_protocols.query import Query
from p2pshare_protocols.query_rank import rank

_SPARE: Final = 64  # candidates looked at beyond those asked for, since some may not be shown


@dataclass(frozen=True, slots=True)
class Found:
    """`rows`, best first; `complete` when nothing that matches was left out."""

    rows: list[Row]
    complete: bool


Run = Callable[[Callable[[], Found]], Awaitable[Found]]


def in_threads(at_once: int) -> Run:
    """Searches run in worker threads, `at_once` of them; the others wait."""
    limiter = trio.CapacityLimiter(at_once)

    async def run(work: Callable[[], Found]) -> Found:
        # The stubs that libp2p brings (trio-typing) are older than this argument.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)  # type: ignore[call-arg]

    return run


async def rows_of(
    store: Store,
    query: Query,
    limit: int,
    *,
    peer_id: str,
    for_strangers: bool,
    run: Run,
) -> Found:
    """What this node has that matches: items and files inside them whose content is as it was shared.

    `peer_id` is our own, the publisher of what was shared here. `for_strangers` leaves out what is not to be
    found by words (`--no-index`). The search ends soon after it is cancelled. Raises LocalError.
    """
    asked = min(2 * limit, MAX_LIMIT) + _SPARE
    stop = threading.Event()
    try:
        # Ranking costs as much as finding: none of it is the loop's to spend.
        return await run(lambda: _ranked(_search(store, query, asked, stop), query, limit, peer_id, for_strangers))
    finally:
        stop.set()


def _search(store: Store, query: Query, limit: int, stop: threading.Event) -> FoundRows:
    with closing(store.reader()) as reader:
        return reader.search(query, limit, stop=stop)


def _ranked(candidates: FoundRows, query: Query, limit: int, peer_id: str, for_strangers: bool) -> Found:
    ranked: list[tuple[float, Row]] = []
    for found in candidates.rows:
        if found.state != "ok" or (for_strangers and not found.index):
            continue
        row = _row(found, peer_id)
        record = row.record()
        if query.matches(record):
            ranked.append((rank(query, record).score, row))
    ranked.sort(key=lambda pair: pair[0], reverse=True)
    rows = [row for _, row in ranked[:limit]]
    return Found(rows, complete=candidates.complete and len(rows) == len(ranked))


def _row(found: FoundRow, peer_id: str) -> Row:
    inside = bool(found.path_in_item)
    return Row(
        cid=found.cid,
        name=found.name,
        size=found.size,
        type=found.type,
        kind=found.kind,
        root=found.root_cid if inside else None,
        path=(found.item_name, *found.path_in_item.split("/")) if inside else (),
        mime="" if inside else found.mime,
        tags=found.tags,
        title=found.title,
        created=found.created,
        publisher=peer_id if found.origin == "shared" else "",
    )
