"""The own catalogue's answer to a query, as rows of the index protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pshare.store import FoundRow, Item, Store
from p2pshare_protocols.index_messages import MAX_LIMIT, Row
from p2pshare_protocols.query import Query
from p2pshare_protocols.query_rank import rank

_SPARE: Final = 64  # candidates looked at beyond those asked for, since some may not be shown


@dataclass(frozen=True, slots=True)
class Found:
    """`rows`, best first; `complete` when nothing that matches was left out."""

    rows: list[Row]
    complete: bool


def rows_of(store: Store, query: Query, limit: int, *, peer_id: str, for_strangers: bool) -> Found:
    """What this node has that matches: items and files inside them whose content is as it was shared.

    `peer_id` is our own, the publisher of what was shared here. `for_strangers` leaves out what is not to be
    found by words (`--no-index`). Raises LocalError.
    """
    asked = min(2 * limit, MAX_LIMIT) + _SPARE
    candidates = store.items.search(query, asked)
    items: dict[int, Item] = {}
    ranked: list[tuple[float, Row]] = []
    for found in candidates:
        item = items.get(found.item_id) or items.setdefault(found.item_id, store.items.get(found.item_id))
        if item.state != "ok" or (for_strangers and not item.index):
            continue
        row = _row(found, item, peer_id)
        record = row.record()
        if query.matches(record):
            ranked.append((rank(query, record).score, row))
    ranked.sort(key=lambda pair: pair[0], reverse=True)
    rows = [row for _, row in ranked[:limit]]
    return Found(rows, complete=len(candidates) < asked and len(rows) == len(ranked))


def _row(found: FoundRow, item: Item, peer_id: str) -> Row:
    inside = bool(found.path_in_item)
    return Row(
        cid=found.cid,
        name=found.name,
        size=found.size,
        type=found.type,
        kind=found.kind,
        root=found.root_cid if inside else None,
        path=(item.name, *found.path_in_item.split("/")) if inside else (),
        mime="" if inside else item.mime,
        tags=item.tags,
        title=item.title,
        created=item.created,
        publisher=peer_id if item.origin == "shared" else "",
    )
