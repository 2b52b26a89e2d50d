"""Looking at an item without fetching it: its tree, its size, and how many peers hold it now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from p2pshare.dht.api import DHT
from p2pshare.errors import NoProvider, NotFound, P2PShareError, RemoteError
from p2pshare.exchange.answers import Reader
from p2pshare.exchange.finder import Finder
from p2pshare.exchange.structure import MalformedContent, Structure
from p2pshare.exchange.swarm import Swarm
from p2pshare.net.api import Network
from p2pshare.store import Store
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.dagplan import Entry
from p2pshare_protocols.dagwalk import DagWalk
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.pathwalk import NoSuchEntry, PathWalk

COUNTING: Final = 1.5  # seconds that sources are still counted once the tree is known


@dataclass(frozen=True, slots=True)
class Seen:
    """What is at `cid`; `entries` start with the item itself; `sources` are peers that said they hold it."""

    cid: CID
    entries: Sequence[Entry]
    sources: tuple[str, ...]
    here: bool  # this machine has it

    @property
    def size(self) -> int:
        return sum(entry.size or 0 for entry in self.entries)


async def look(
    cid: CID,
    path: tuple[bytes, ...],
    *,
    addresses: Sequence[str],
    timeout: float,
    network: Network,
    dht: DHT,
    store: Store,
    reader: Reader,
) -> Seen:
    """Walk the DAG down to its leaves, which are not fetched. Raises NoProvider when nobody had it in `timeout` s,
    NotFound when `path` is not in it, RemoteError when it is malformed."""
    swarm = Swarm(network, cid.v1.binary)
    finder = Finder(swarm, network, dht, cid, addresses)
    structure = Structure(swarm, store, lambda text: None)
    seen: tuple[CID, Sequence[Entry]] | None = None
    failure: P2PShareError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(swarm.run)
        nursery.start_soon(finder.run)
        with trio.move_on_after(timeout):
            try:
                seen = await _walk(cid, path, structure, store, reader)
                await _count(swarm, finder)
            except P2PShareError as error:
                failure = error
        sources = tuple(swarm.sources)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if seen is None:
        raise NoProvider(
            f"nobody who answered in {timeout:g} s has {cid}", hint="try again later, or give a peer that has it"
        )
    root, entries = seen
    return Seen(root, entries, sources, here=store.blocks.has(root.v1.binary))


async def _walk(
    cid: CID, path: tuple[bytes, ...], structure: Structure, store: Store, reader: Reader
) -> tuple[CID, Sequence[Entry]]:
    try:
        down = PathWalk(cid, path)
        while (wanted := down.wanted) is not None:
            down.feed(wanted, await structure.block(wanted))
        walk = DagWalk(down.target)
        await structure.complete(walk)
        plan = await trio.to_thread.run_sync(walk.plan)
    except NoSuchEntry as error:
        raise NotFound(f"the path is not there: {error}") from error
    except RemoteProtocolError as error:
        raise MalformedContent(f"the content cannot be read: {error}") from error
    if down.target.codec == RAW and plan.size is None:  # nobody told its size: the block itself does
        [entry] = plan.entries
        own = store.references.locate(down.target.v1.binary)
        entry.size = own[0].length if own else len(await _block(down.target, structure, reader))
    return down.target, plan.entries


async def _block(cid: CID, structure: Structure, reader: Reader) -> bytes:
    try:
        return await reader.read(cid)
    except P2PShareError as error:
        if isinstance(error, RemoteError):
            raise
        return await structure.block(cid)


async def _count(swarm: Swarm, finder: Finder) -> None:
    """Until every way of looking was tried once, or long enough."""
    with trio.move_on_after(COUNTING):
        while not finder.settled:  # noqa: ASYNC110 - the finder has many ways to settle, and this ends in 1.5 s
            await trio.sleep(0.02)
