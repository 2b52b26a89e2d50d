"""What a holder answers to one request: frames made from the catalogue, block by block, each verified by the reader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from p2pshare.errors import NotFound, P2PShareError, SourceChanged
from p2pshare.exchange.partial import Partials
from p2pshare.store import Store
from p2pshare_protocols import dagpb
from p2pshare_protocols.cid import CID, DAG_PB
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_messages import (
    MAX_CIDS,
    MAX_PAYLOAD,
    PIECE,
    Answer,
    Blocks,
    BlocksData,
    Have,
    Held,
    Holding,
    Mark,
    Nodes,
    NodesData,
)

MAX_ANSWER_NODES: Final = 16_384  # blocks in one answer to NODES
MAX_ANSWER_BYTES: Final = 16 << 20  # and their bytes
_BREATH: Final = 16  # small blocks read without letting other tasks run: about 1 ms

Wanted = Callable[[], bool]


class Reader(Protocol):
    """Reads own blocks, verified. Raises NotFound, SourceChanged, or another LocalError when the disk fails."""

    async def read(self, cid: CID) -> bytes: ...

    def suspect(self, cid: CID) -> None:
        """Compare the block with its CID when it is read next, whatever is known of its file."""


@dataclass(slots=True)
class Frame:
    """One answer frame: its header, and the payload in parts that are sent one behind the other."""

    answer: Answer
    parts: Sequence[bytes | memoryview] = ()

    @property
    def payload(self) -> int:
        return sum(map(len, self.parts))


Emit = Callable[[Frame], Awaitable[None]]


class Answerer:
    """Knows what this node holds. `wanted()` is asked between blocks; when it says no, the answer ends early.

    A frame is read in one turn. trio gives turns in the order of asking, and a stream asks for one at a time: a peer
    that asks for much waits as long between its frames as one that asks for little. No turn is held while sending.
    """

    def __init__(self, store: Store, reader: Reader, partials: Partials, turns: trio.CapacityLimiter) -> None:
        self._store = store
        self._reader = reader
        self._partials = partials
        self._turns = turns

    async def answer(self, request: Have | Nodes | Blocks, wanted: Wanted, emit: Emit) -> None:
        """Make the frames that answer a request, and `emit` each."""
        if isinstance(request, Have):
            await emit(self.holding(request))
        elif isinstance(request, Blocks):
            await self._answer_blocks(request, wanted, emit)
        else:
            await self._answer_nodes(request, wanted, emit)

    def holding(self, request: Have) -> Frame:
        """Claims are cheap on both sides: a block that is not there after all gets a mark."""
        try:
            root = CID.from_binary(request.root)
        except RemoteProtocolError:
            return Frame(Held(request.id, Holding.NOTHING))
        item = self._store.items.by_cid(root)
        if item is not None and item.state == "ok":
            return Frame(Held(request.id, Holding.ALL, 0, item.size))
        partial = self._partials.of(request.root)
        leaves = partial.leaves() if partial is not None else None
        if partial is not None and leaves is not None and leaves.size:
            return Frame(Held(request.id, Holding.PART, leaves.size, partial.size), [leaves.to_bytes()])
        if self._store.blocks.has(root.v1.binary):
            return Frame(Held(request.id, Holding.ALL))
        return Frame(Held(request.id, Holding.NOTHING))

    async def _answer_blocks(self, request: Blocks, wanted: Wanted, emit: Emit) -> None:
        """The blocks in the order asked; small ones gathered into frames of about 1 MiB."""
        spare: bytes | Mark | None = None  # read, but too large for the frame
        at = 0
        while at < len(request.cids) and wanted():
            sizes: list[int] = []
            parts: list[bytes] = []
            total = 0
            async with self._turns:
                while at < len(request.cids) and total < PIECE and wanted():
                    if not at % _BREATH:
                        await trio.lowlevel.checkpoint()  # reading what is in the page cache is none
                    block = await self._block(request.cids[at]) if spare is None else spare
                    size = block.value if isinstance(block, Mark) else len(block)
                    spare = block if total + size > MAX_PAYLOAD else None
                    if spare is not None:
                        break
                    at += 1
                    sizes.append(size)
                    if not isinstance(block, Mark):
                        parts.append(block)
                        total += size
            if sizes:
                await emit(Frame(BlocksData(request.id, tuple(sizes), at == len(request.cids)), parts))
        if at < len(request.cids):
            await emit(Frame(BlocksData(request.id, (), end=True)))

    async def _block(self, binary: bytes) -> bytes | Mark:
        try:
            return await self._reader.read(CID.from_binary(binary))
        except (NotFound, RemoteProtocolError):
            partial = self._partials.read(binary)
            return Mark.MISSING if partial is None else partial
        except SourceChanged:
            return Mark.CHANGED
        except P2PShareError:
            return Mark.BUSY

    async def _answer_nodes(self, request: Nodes, wanted: Wanted, emit: Emit) -> None:
        """The dag-pb blocks under each CID, depth first, a block once, up to the bounds of one answer."""
        seen: set[bytes] = set()
        stack = list(reversed(request.cids))
        sent = 0
        end = False
        while not end:
            cids: list[bytes] = []
            parts: list[bytes] = []
            total = 0
            async with self._turns:
                while stack and total < PIECE // 2 and len(cids) < MAX_CIDS and len(seen) < MAX_ANSWER_NODES:
                    binary = stack.pop()
                    if binary in seen:
                        continue
                    seen.add(binary)
                    if not len(seen) % _BREATH:
                        await trio.lowlevel.checkpoint()
                    block = await self._node(binary, stack)
                    # One that does not fit is left out; asked for again, it comes first and fits.
                    if block is not None and total + len(block) <= MAX_PAYLOAD:
                        cids.append(binary)
                        parts.append(block)
                        total += len(block)
            sent += total
            end = not stack or len(seen) >= MAX_ANSWER_NODES or sent >= MAX_ANSWER_BYTES or not wanted()
            await emit(Frame(NodesData(request.id, tuple(cids), tuple(map(len, parts)), end), parts))

    async def _node(self, binary: bytes, stack: list[bytes]) -> bytes | None:
        """A dag-pb block, its dag-pb children put on the stack; None when it is not held or no node."""
        try:
            cid = CID.from_binary(binary)
            if cid.codec != DAG_PB:
                return None
            block = await self._reader.read(cid)
            links, _ = dagpb.decode(block)
        except (P2PShareError, RemoteProtocolError):
            return None
        stack.extend(link.cid.v1.binary for link in reversed(links) if link.cid.codec == DAG_PB)
        return block
