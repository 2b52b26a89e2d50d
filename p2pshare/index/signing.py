"""Signing the records of our own items, and how background work gives way to what people wait for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Final

import trio

from p2pshare.errors import NotFound
from p2pshare.identity import Identity
from p2pshare.store import Item, Store, type_of
from p2pshare.store.own_postings import Draft
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols import item_record, kad_keys
from p2pshare_protocols.errors import LocalProtocolError
from p2pshare_protocols.item_record import ItemRecord, term_key

QUICK: Final = 100  # files of an item whose records are signed at once; those of a larger one bit by bit
_SIGNED: Final = 100  # records signed and written in one go
_SLICE: Final = 20  # the same bit by bit: about 3 ms
REST: Final = 3.0  # times as long as a piece of background work took, others have the loop
_LATE: Final = 0.002  # seconds by which the loop wakes us late when it has other work
_PATIENCE: Final = 0.25  # seconds for which such work goes first, a piece
_log = logging.getLogger(__name__)


async def breathe(begin: float) -> None:
    """Behind a piece of background work, begun at `begin` (trio's clock): let others have the loop.

    A loop that wakes us late has other work, which goes first, but not for ever.
    """
    rest = max(_LATE, REST * (trio.current_time() - begin))
    last = trio.current_time() + _PATIENCE
    while True:
        due = trio.current_time() + rest
        await trio.sleep(rest)
        if trio.current_time() - due < _LATE or trio.current_time() > last:
            return


class Signer:
    """Signs with `publisher` and writes down; `files_inside`: records of the files of one item, at most.

    `begun` is called when the first records of a large item are there.
    """

    def __init__(
        self,
        store: Store,
        publisher: Identity,
        *,
        files_inside: int,
        begun: Callable[[], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._own = store.own_postings
        self._publisher = publisher
        self._files_inside = files_inside
        self._begun = begun
        self._now = wall_clock
        self._under_way: dict[int, trio.Event] = {}

    @property
    def under_way(self) -> Collection[int]:
        """The items that are being signed."""
        return self._under_way.keys()

    def is_large(self, item_id: int) -> bool:
        """Whether its records are signed in the background."""
        try:
            return self._store.items.get(item_id).files > QUICK
        except NotFound:
            return False

    async def publish(self, item_id: int) -> None:
        """Sign the records of an item and write them down, unless they are. Several may ask at one time."""
        if (under_way := self._under_way.get(item_id)) is not None:
            await under_way.wait()
            return
        done = self._under_way[item_id] = trio.Event()
        try:
            item = self._store.items.get(item_id)
            if not self._own.has(item_id):
                await self._sign(item)
        except NotFound:
            return  # unshared meanwhile
        finally:
            del self._under_way[item_id]
            done.set()

    async def _sign(self, item: Item) -> None:
        large, begun = item.files > QUICK, False
        drafts: list[Draft] = []
        begin = trio.current_time()
        for record in self._records(item):
            try:
                drafts.append(_draft(record, self._publisher))
            except LocalProtocolError as error:
                _log.debug("%r is not published: %s", record.name, error)
            if len(drafts) >= (_SLICE if large else _SIGNED):
                self._own.add(item.id, drafts)
                drafts = []
                if not large:
                    await trio.lowlevel.checkpoint()
                    continue
                if not begun:
                    self._begun()
                begun = True
                await breathe(begin)
                begin = trio.current_time()
        self._own.add(item.id, drafts)
        self._own.added(item.id, item.cid.v1.binary)

    def _records(self, item: Item) -> Iterator[ItemRecord]:
        sequence = int(self._now() * 1000)
        created = int(item.created)
        yield ItemRecord(
            item.cid.v1,
            item.name,
            item.size,
            item.type,
            sequence,
            kind=item.kind,
            tags=item.tags,
            title=item.title,
            created=created,
        )
        after, left = 0, self._files_inside if item.kind == "directory" else 0
        while left > 0 and (rows := self._store.items.names(item.id, min(left, 1000), after)):
            for number, row in rows:
                after = number
                if row.kind == "file":
                    left -= 1
                    way = (item.name, *row.path_in_item.split("/"))
                    kind = row.type or type_of(row.name)
                    yield ItemRecord(
                        row.cid.v1, row.name, row.size, kind, sequence, root=item.cid.v1, path=way, created=created
                    )


def _draft(record: ItemRecord, publisher: Identity) -> Draft:
    signed = item_record.sign(record, publisher.private)
    signed_record = item_record.decode(signed.body)  # what did not fit is not there, and has no postings
    assert isinstance(signed_record, ItemRecord)
    terms = signed_record.terms()[: wire.MAX_TERMS]
    return Draft(record.identity, record.sequence, signed, [(term, place_of(term)) for term in terms])


@lru_cache(16384)
def place_of(term: str) -> bytes:
    """Where a term's postings belong in the DHT's key space, 32 bytes."""
    return kad_keys.key_of(term_key(term)).to_bytes(32, "big")
