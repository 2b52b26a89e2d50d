"""One stream to one holder, from the fetching side: requests out, answers sorted to who asked for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from p2pshare.errors import RemoteError, VerificationFailed
from p2pshare.exchange.limits import Limit
from p2pshare.exchange.wire import FrameReader, Pool
from p2pshare.net.api import Stream
from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.cid import CID
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_client import Client, Received
from p2pshare_protocols.exchange_messages import BlocksData, Held, Holding, Mark, NodesData, Other, Refused, split

_BEFORE_RESET: Final = 0.1  # seconds for a last message to be read: the reset that follows would overtake it
_AHEAD: Final = 2  # frames of one answer that wait for whoever asked


@dataclass(frozen=True, slots=True)
class Arrival:
    """Blocks of a piece as they came, or marks; nothing of it is verified. `payload` is the memory they lie in."""

    piece: int
    leaves: Sequence[int]  # which the blocks are
    blocks: Sequence[memoryview | Mark]
    ended: bool  # the last of this piece from this source
    refused: str = ""
    payload: memoryview | None = None


@dataclass(slots=True)
class _Piece:
    number: int
    leaves: Sequence[int]
    cids: Sequence[bytes]
    sizes: Sequence[int]


@dataclass(slots=True, eq=False)
class Source:
    """`run` must be running for anything else to get an answer. A peer may be one source over several connections:
    `lane` numbers them, and `name` is the peer ID, from the second lane on with its number.

    `arrived` gets each frame of a piece; while it waits, nothing more is read from this source. `heard` is told of
    bytes as they come.
    """

    stream: Stream
    arrived: Callable[[Source, Arrival], Awaitable[None]]
    heard: Callable[[Source, int], None]
    limit: Limit | None = None  # of all downloads
    lane: int = 1
    heard_at: float = 0.0  # trio clock
    rtt: float = float("inf")  # seconds; of the quickest answer to HAVE
    holding: Holding = Holding.NOTHING
    leaves: Bitmap | None = None  # with PART: the leaves it has
    size: int = 0
    queue: int = 0  # our place among those who wait for an upload slot; 0: we do not wait
    others: tuple[Other, ...] = ()  # who fetches the same, as it last said; nobody has checked it
    busy: bool = False  # we, not it, are what it waits for
    _client: Client = field(default_factory=Client)
    _outbox: bytearray = field(default_factory=bytearray)
    _to_send: trio.Event = field(default_factory=trio.Event)
    _flushed: trio.Event = field(default_factory=trio.Event)
    _closed: bool = False
    _waiting: dict[int, trio.MemorySendChannel[tuple[Received, memoryview]]] = field(default_factory=dict)
    _pieces: dict[int, _Piece] = field(default_factory=dict)
    _pool: Pool = field(default_factory=Pool)

    @property
    def peer(self) -> str:
        return self.stream.peer_id

    @property
    def name(self) -> str:
        return self.peer if self.lane == 1 else f"{self.peer}#{self.lane}"

    async def run(self) -> None:
        """Until the stream ends. Raises BrokenResourceError, RemoteProtocolError, WrongBlock."""
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                try:
                    await self._receive()
                except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError) as error:
                    failure = error
                except WrongBlock as error:
                    failure = error
                    await self.report_bad(error.cid)
                nursery.cancel_scope.cancel()
        finally:
            self._closed = True
            for waiting in self._waiting.values():
                waiting.close()
        if failure is not None:
            raise failure

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send = trio.Event()
            data, self._outbox = bytes(self._outbox), bytearray()
            try:
                await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the receiving side ends for the same reason
            self._flushed.set()

    def _queue(self, data: bytes) -> None:
        if data:
            self._outbox += data
            self._to_send.set()

    async def _receive(self) -> None:
        frames = FrameReader(self.stream, self.limit)
        while (message := await frames.header()) is not None:
            received = self._client.receive(message)
            self._check_sizes(received)
            length = 0 if isinstance(received.answer, Refused) else received.answer.payload
            payload = self._pool.take(length)
            await frames.payload(payload, self._heard)
            self.busy = True
            try:
                await self._sort(received, payload)
            finally:
                self.busy = False
        raise trio.BrokenResourceError("the source closed the stream")

    def _heard(self, count: int) -> None:
        self.heard_at = trio.current_time()
        self.heard(self, count)

    def _check_sizes(self, received: Received) -> None:
        """A block of another length than the DAG says is wrong: it is not even read."""
        answer = received.answer
        piece = self._pieces.get(answer.id)
        if piece is None or not isinstance(answer, BlocksData):
            return
        expected = piece.sizes[received.first : received.first + len(answer.sizes)]
        for place, (size, right) in enumerate(zip(answer.sizes, expected, strict=True)):
            if size not in {right, Mark.MISSING, Mark.CHANGED, Mark.BUSY}:
                raise WrongBlock(self.peer, piece.cids[received.first + place])

    async def _sort(self, received: Received, payload: memoryview) -> None:
        answer = received.answer
        piece = self._pieces.get(answer.id)
        if piece is None:
            waiting = self._waiting.get(answer.id)
            if waiting is not None:
                try:
                    await waiting.send((received, payload))
                except trio.BrokenResourceError:
                    self._waiting.pop(answer.id, None)  # whoever asked has gone
            return
        if received.ended:
            del self._pieces[answer.id]
        if not received.wanted:
            return
        if isinstance(answer, Refused):
            await self.arrived(self, Arrival(piece.number, (), (), True, answer.reason or "refused"))
        elif isinstance(answer, BlocksData):
            blocks = split(payload, answer.sizes)
            leaves = piece.leaves[received.first : received.first + len(blocks)]
            await self.arrived(self, Arrival(piece.number, leaves, blocks, received.ended, payload=payload))

    def used(self, arrival: Arrival) -> None:
        """An arrival's bytes are written: their memory may be filled again."""
        if arrival.payload is not None:
            self._pool.give(arrival.payload)

    @property
    def owes(self) -> bool:
        """Pieces were asked for and are not here."""
        return bool(self._pieces)

    # -- asking --

    def ask_piece(self, number: int, leaves: Sequence[int], cids: Sequence[bytes], sizes: Sequence[int]) -> None:
        """Ask for these leaves of a piece; its frames go to `arrived`."""
        id, data = self._client.blocks(cids)
        self._pieces[id] = _Piece(number, leaves, cids, sizes)
        self._queue(data)

    def cancel_piece(self, number: int) -> None:
        for id, piece in self._pieces.items():
            if piece.number == number:
                self._queue(self._client.cancel(id))

    async def report_bad(self, cid: bytes) -> None:
        """Tell the holder that a block was wrong. Best effort, within a second, before the stream is dropped."""
        self._flushed = trio.Event()
        self._queue(Client.bad(cid))
        with trio.move_on_after(1):
            await self._flushed.wait()
            await trio.sleep(_BEFORE_RESET)

    async def ask_holding(self, root: bytes, *, fetching: bool = False) -> Holding:
        """What it has of the DAG now; kept in `holding`, `leaves`, `size`, `queue` and `others`."""
        id, data = self._client.have(root, fetching=fetching)
        asked = trio.current_time()
        async with self._asking(id, data) as answers:
            received, payload = await answers.receive()
        self.rtt = min(self.rtt, trio.current_time() - asked)
        if isinstance(received.answer, Held):
            self.holding = received.answer.holding
            self.size = received.answer.size
            self.queue, self.others = received.answer.queue, received.answer.others
            self.leaves = None
            if self.holding is Holding.PART:
                self.leaves = Bitmap.from_bytes(payload, received.answer.leaves)
        return self.holding

    async def nodes(self, cids: Sequence[bytes], feed: Callable[[bytes, bytes], None]) -> None:
        """Ask for nodes; `feed(cid, block)` gets each as it comes, not verified. Raises RemoteError when refused."""
        id, data = self._client.nodes(cids)
        async with self._asking(id, data) as answers:
            async for received, payload in answers:
                if isinstance(received.answer, Refused):
                    raise RemoteError(f"the source {self.name} refused: {received.answer.reason}", kind="failed")
                assert isinstance(received.answer, NodesData)
                for cid, block in zip(received.answer.cids, split(payload, received.answer.sizes), strict=True):
                    assert isinstance(block, memoryview)
                    feed(cid, bytes(block))
                if received.ended:
                    return
        raise RemoteError(f"the source {self.name} went away")

    async def block(self, cid: bytes) -> memoryview | Mark:
        """One block whose size is not known before; not verified."""
        id, data = self._client.blocks([cid])
        async with self._asking(id, data) as answers:
            received, payload = await answers.receive()
        if isinstance(received.answer, BlocksData):
            return split(payload, received.answer.sizes)[0]
        return Mark.BUSY

    @asynccontextmanager
    async def _asking(
        self, id: int, data: bytes
    ) -> AsyncIterator[trio.MemoryReceiveChannel[tuple[Received, memoryview]]]:
        if self._closed:
            raise RemoteError(f"the source {self.name} went away")
        send, receive = trio.open_memory_channel[tuple[Received, memoryview]](_AHEAD)
        self._waiting[id] = send
        self._queue(data)
        try:
            async with receive:
                yield receive
        except trio.EndOfChannel:
            raise RemoteError(f"the source {self.name} went away") from None
        finally:
            self._waiting.pop(id, None)
            self._queue(self._client.cancel(id))


class WrongBlock(VerificationFailed):
    """A source sent bytes that are not the block asked for."""

    def __init__(self, peer: str, cid: bytes) -> None:
        super().__init__(
            f"source {peer} sent bytes that are not block {_text(cid)}",
            hint="the bytes were thrown away; fetch again when another source is there",
        )
        self.peer = peer
        self.cid = cid
        self.block = _text(cid)


def _text(cid: bytes) -> str:
    try:
        return str(CID.from_binary(cid))
    except RemoteProtocolError:
        return cid.hex()
