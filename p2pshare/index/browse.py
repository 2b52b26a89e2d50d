"""What one peer shares in public, page after page; and what this node tells others of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from p2pshare.errors import TimedOut
from p2pshare.index.client import IndexClient
from p2pshare.index.merge import link_of
from p2pshare.store import Item, Store
from p2pshare_protocols import index_browse
from p2pshare_protocols.index_browse import Browse
from p2pshare_protocols.index_messages import MAX_NAME, Row, encode_pages, encode_row
from p2pshare_protocols.text import clean

_BUSY: Final = 1.0  # seconds until a peer that gave no answer, since it was asked too often, is asked again
_STUCK: Final = 3  # times that it may do so, one after the other

Emit = Callable[[dict[str, Any]], Awaitable[None]]


async def browse(
    client: IndexClient, peer_id: str, emit: Emit, *, limit: int, after: int = 0, timeout: float = 30.0
) -> dict[str, Any]:
    """Emit a "result" event for each item that a peer shares, at most `limit`, from behind `after`; then the "done"
    event: `complete` when there is no more, else `after` is what to go on with.

    `timeout` (seconds) is for all of it. Raises as IndexClient.ask.
    """
    count, busy, begin = 0, 0, trio.current_time()

    async def tell(row: Row) -> None:
        nonlocal count
        count += 1
        await emit(_event(row, peer_id))

    complete = False
    while not complete and count < limit:
        left = begin + timeout - trio.current_time()
        asked = Browse(after, min(limit - count, index_browse.MAX_ROWS))
        end = await client.browse(peer_id, asked, tell, timeout=max(left, 0.0))
        complete = end.complete
        if complete or end.after > after:
            after, busy = max(after, end.after), 0
            continue
        busy += 1
        if busy > _STUCK:
            raise TimedOut("the peer has no time to say what it shares", hint="Ask again in a minute.")
        await trio.sleep(_BUSY)
    elapsed = round(trio.current_time() - begin, 3)
    return {"event": "done", "results": count, "complete": complete, "after": after, "elapsed": elapsed}


def answer(store: Store, request: Browse, peer_id: str) -> bytes:
    """All frames of the answer of this node, `peer_id`. Bounded: a page of rows."""
    items = store.items.public(request.limit, request.after) if request.limit else []
    packed = [row for row in (encode_row(_row(item, peer_id)) for item in items) if row is not None]
    frames, everything = encode_pages(packed)
    assert everything  # so many rows have room
    newest, last = store.items.newest_public(), items[-1].id if items else 0
    complete = max(last, request.after) >= newest
    return b"".join(frames) + index_browse.encode_end(complete=complete, after=last, newest=newest)


def _row(item: Item, peer_id: str) -> Row:
    return Row(
        cid=item.cid,
        name=item.name,
        size=item.size,
        type=item.type,
        kind=item.kind,
        mime=item.mime,
        tags=item.tags,
        title=item.title,
        created=item.created,
        publisher=peer_id,
    )


def _event(row: Row, peer_id: str) -> dict[str, Any]:
    return {
        "event": "result",
        "cid": str(row.cid),
        "link": link_of(row),
        "name": clean(row.name, MAX_NAME),
        "size": row.size,
        "type": row.type,
        "kind": row.kind,
        "tags": list(row.tags),
        "title": row.title,
        "created": row.created,
        "publisher": row.publisher,
        "sources": 1,
        "tier": "peer",
    }
