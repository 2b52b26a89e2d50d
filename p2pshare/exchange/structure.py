"""Getting a DAG's inner blocks: what is here already, then from the sources, whole sub-DAGs in one answer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import trio

from p2pshare.errors import RemoteError
from p2pshare.exchange.source import Source, WrongBlock
from p2pshare.exchange.swarm import Swarm
from p2pshare.store import Store
from p2pshare_protocols.cid import CID, DAG_PB, UnsupportedHash
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_messages import MAX_CIDS, Holding, Mark

SILENCE: Final = 10.0  # seconds without a block before another source is asked
AGAIN: Final = 5.0  # seconds until sources that could not help are asked again
KEEP: Final = 1024  # blocks written in one transaction
_log = logging.getLogger(__name__)


class Walk(Protocol):
    """What asks for blocks: a DagWalk, or a path through directories."""

    def wanted(self, limit: int | None = None) -> list[CID]: ...

    def feed(self, cid: CID, block: bytes) -> bool: ...


class Structure:
    """Feeds walks. Blocks are kept in the store for `owner`, so that a restart has them; without one, cached."""

    def __init__(
        self,
        swarm: Swarm,
        store: Store,
        reason: Callable[[str], None],
        need: Callable[[], None] = lambda: None,
        owner: int | None = None,
    ) -> None:
        self._owner = owner
        self._need = need  # called when a source is needed and none is there
        self._swarm = swarm
        self._store = store
        self._reason = reason
        self.stuck = False  # every source that is here was asked in vain; false again when a new one is asked
        self.marks: dict[str, Mark] = {}  # source -> why it did not send a block
        self.received: Counter[str] = Counter()  # bytes by source
        self._unkept: list[tuple[bytes, bytes]] = []

    async def complete(self, walk: Walk) -> None:
        """Until the walk wants nothing. Waits for sources as long as it takes.

        Raises RemoteError when the DAG itself is malformed or over our bounds: no source can mend that.
        """
        useless: set[str] = set()
        asked: set[str] = set()  # in earlier rounds
        while True:
            self._feed_own(walk)
            if not walk.wanted(1):
                self.stuck = False
                return
            source = await self._next(useless, asked)
            if source is None:
                continue
            if await self._ask(source, walk):
                self.stuck = False
            else:
                useless.add(source.peer)

    async def _next(self, useless: set[str], asked: set[str]) -> Source | None:
        """The source to ask now; None after waiting for one, so that the caller looks anew at what is here.

        Sources that were `useless` get another turn after a while, and then count as `asked`.
        """
        changed = self._swarm.changed
        source = self._choose(useless)
        if source is not None:
            self.stuck = self.stuck and source.peer in asked
            return source
        self.stuck = bool(useless)
        self._need()
        with trio.move_on_after(AGAIN) as waited:
            await changed.wait()
        if waited.cancelled_caught:
            asked |= useless
            useless.clear()
        return None

    def _choose(self, useless: set[str]) -> Source | None:
        usable = [source for name, source in self._swarm.sources.items() if name not in useless]
        return min(usable, key=lambda source: source.holding is not Holding.ALL, default=None)

    def _feed_own(self, walk: Walk) -> None:
        while True:
            fed: list[bytes] = []
            for cid in walk.wanted(MAX_CIDS):
                block = self._store.blocks.get(cid.v1.binary)
                if block is not None and cid.matches(block) and _feed(walk, cid, block):
                    fed.append(cid.v1.binary)
            if not fed:
                return
            if self._owner is not None:
                self._store.blocks.own(self._owner, fed)

    async def _ask(self, source: Source, walk: Walk) -> int:
        """One request; how many blocks it brought."""
        self._reason(f"reading what the content consists of from {source.peer[-8:]}")
        count = 0
        with trio.move_on_after(SILENCE) as patience:

            def take(binary: bytes, block: bytes) -> None:
                nonlocal count
                cid = _verified(source.peer, binary, block)
                if _feed(walk, cid, block):
                    count += 1
                    patience.deadline = trio.current_time() + SILENCE
                    self.received[source.peer] += len(block)
                    self._keep(cid, block)

            try:
                await source.nodes([cid.v1.binary for cid in walk.wanted(MAX_CIDS)], take)
            except WrongBlock as error:
                self._swarm.ban(error)
            except RemoteProtocolError as error:
                _log.info("source %s: %s", source.peer, error)
            except MalformedContent:
                raise
            except RemoteError as error:
                _log.debug("source %s: %s", source.peer, error)
        self._flush()
        return count

    def _keep(self, cid: CID, block: bytes) -> None:
        self._unkept.append((cid.v1.binary, block))
        if len(self._unkept) >= KEEP:
            self._flush()

    def _flush(self) -> None:
        if self._unkept:
            self._store.blocks.put_many(self._owner, self._unkept)
            self._unkept = []

    async def block(self, cid: CID) -> bytes:
        """One block, whose size nobody told: from the store, or from a source. Waits as long as it takes."""
        own = self._store.blocks.get(cid.v1.binary)
        if own is not None and cid.matches(own):
            return own
        useless: set[str] = set()
        asked: set[str] = set()  # in earlier rounds
        while True:
            source = await self._next(useless, asked)
            if source is None:
                continue
            useless.add(source.peer)
            block = await self._ask_block(source, cid)
            if block is not None:
                self.stuck = False
                if cid.codec == DAG_PB:
                    self._keep(cid, block)
                    self._flush()
                return block

    async def _ask_block(self, source: Source, cid: CID) -> bytes | None:
        with trio.move_on_after(SILENCE):
            try:
                block = await source.block(cid.v1.binary)
                if isinstance(block, Mark):
                    self.marks[source.peer] = block
                    return None
                _verified(source.peer, cid.v1.binary, block)
                self.received[source.peer] += len(block)
                return bytes(block)
            except WrongBlock as error:
                self._swarm.ban(error)
            except MalformedContent:
                raise
            except (RemoteError, RemoteProtocolError) as error:
                _log.debug("source %s: %s", source.peer, error)
        return None


class MalformedContent(RemoteError):
    """The DAG is not what UnixFS allows, or larger than our bounds. Every honest source would send the same."""

    kind = "failed"


def _feed(walk: Walk, cid: CID, block: bytes) -> bool:
    try:
        return walk.feed(cid, block)
    except RemoteProtocolError as error:
        raise MalformedContent(f"the content cannot be fetched: {error}") from error


def _verified(peer: str, binary: bytes, block: bytes | memoryview) -> CID:
    cid = CID.from_binary(binary)
    try:
        right = cid.matches(block)
    except UnsupportedHash as error:
        raise MalformedContent(f"the content cannot be verified: {error}") from error
    if not right:
        raise WrongBlock(peer, binary)
    return cid
