"""What a holder answers to one request: frames made from the catalogue, block by block, each verified by the reader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from p2pshare.errors import LocalError, NotFound, P2PShareError, SourceChanged
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
    encode,
)

MAX_ANSWER_NODES: Final = 16_384  # blocks in one answer to NODES
MAX_ANSWER_BYTES: Final = 16 << 20  # and their bytes
HEADROOM: Final = 16 << 10  # bytes in front of a frame's blocks for its header: 1024 sizes and more
_BREATH: Final = 64  # small blocks read without letting other tasks run: about 2 ms

Wanted = Callable[[], bool]


class Reader(Protocol):
    """Reads own blocks, verified. Raises NotFound, SourceChanged, or another LocalError when the disk fails."""

    async def read(self, cid: CID) -> bytes: ...

    async def read_into(self, cids: Sequence[CID], buffer: memoryview) -> Sequence[int | LocalError]:
        """Blocks one behind the other into `buffer`, as many as fit: their sizes. It stops at one that cannot be had;
        its error is then the last of the answer. Empty: the first does not fit."""

    def suspect(self, cid: CID) -> None:
        """Compare the block with its CID when it is read next, whatever is known of its file."""


class Buffers:
    """Memory for frames: used again, since new memory costs the kernel more than what is read into it. Each has
    HEADROOM bytes in front of a payload of at most 2 MiB."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        return self._free.pop() if self._free else memoryview(bytearray(HEADROOM + MAX_PAYLOAD))

    def give(self, buffer: memoryview) -> None:
        self._free.append(buffer)


@dataclass(slots=True)
class Frame:
    """One answer frame: its header, and the payload in parts that are sent one behind the other.

    `whole` is header and payload in one, when they lie so, and `buffer` what they lie in, to give back once it is sent.
    """

    answer: Answer
    parts: Sequence[bytes | memoryview] = ()
    whole: memoryview | None = None
    buffer: memoryview | None = None

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

    async def answer(self, request: Have | Nodes | Blocks, wanted: Wanted, emit: Emit, buffers: Buffers) -> None:
        """Make the frames that answer a request, and `emit` each."""
        if isinstance(request, Have):
            await emit(self.holding(request))
        elif isinstance(request, Blocks):
            await self._answer_blocks(request, wanted, emit, buffers)
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
        binary = root.v1.binary
        if self._store.blocks.size(binary) is not None or self._store.references.is_sound(binary):
            return Frame(Held(request.id, Holding.ALL))
        return Frame(Held(request.id, Holding.NOTHING))

    async def _answer_blocks(self, request: Blocks, wanted: Wanted, emit: Emit, buffers: Buffers) -> None:
        """The blocks in the order asked; small ones gathered into frames of about 1 MiB."""
        at = 0
        while at < len(request.cids) and wanted():
            buffer = buffers.take()
            async with self._turns:
                sizes = await self._gather(request.cids, at, wanted, buffer[HEADROOM:])
            at += len(sizes)
            answer = BlocksData(request.id, tuple(sizes), at == len(request.cids))
            header = encode(answer)
            begin = HEADROOM - len(header)
            buffer[begin:HEADROOM] = header
            end = HEADROOM + answer.payload
            await emit(Frame(answer, [buffer[HEADROOM:end]], whole=buffer[begin:end], buffer=buffer))
        if at < len(request.cids):
            await emit(Frame(BlocksData(request.id, (), end=True)))

    async def _gather(self, cids: Sequence[bytes], at: int, wanted: Wanted, room: memoryview) -> list[int]:
        """Sizes and marks of the blocks from `at` on that are in `room` now; at least one."""
        sizes: list[int] = []
        total = 0
        while at + len(sizes) < len(cids) and total < PIECE and (not sizes or wanted()):
            if sizes:
                await trio.lowlevel.checkpoint()  # reading what is in the page cache is none
            first = at + len(sizes)
            read = await self._read([*cids[first : first + _BREATH]], room[total:])
            if not read:
                return sizes or [Mark.MISSING.value]  # a block that no frame can hold is none of this protocol
            sizes += read
            total += sum(size for size in read if size > 0)
        return sizes

    async def _read(self, binaries: Sequence[bytes], room: memoryview) -> list[int]:
        """As many of these as fit and can be had; the last may be a mark."""
        cids: list[CID] = []
        for binary in binaries:
            try:
                cids.append(CID.from_binary(binary))
            except RemoteProtocolError:
                break
        read: Sequence[int | P2PShareError] = [NotFound("no such block")]
        if cids:
            try:
                read = await self._reader.read_into(cids, room)
            except P2PShareError as error:
                read = [error]
        sizes: list[int] = []
        for size in read:
            if isinstance(size, int):
                sizes.append(size)
                continue
            used = sum(sizes)
            found = self._instead(binaries[len(sizes)], size)
            if isinstance(found, Mark):
                sizes.append(found.value)
            elif len(found) <= len(room) - used:
                room[used : used + len(found)] = found
                sizes.append(len(found))
        return sizes

    def _instead(self, binary: bytes, error: P2PShareError) -> bytes | Mark:
        """What a running fetch has of a block that cannot be read, or why it does not come."""
        if isinstance(error, NotFound):
            partial = self._partials.read(binary)
            return Mark.MISSING if partial is None else partial
        return Mark.CHANGED if isinstance(error, SourceChanged) else Mark.BUSY

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
            links = dagpb.decode(block)[0] if dagpb.may_have_nodes(block) else []
        except (P2PShareError, RemoteProtocolError):
            return None
        stack.extend(link.cid.v1.binary for link in reversed(links) if link.cid.codec == DAG_PB)
        return block
