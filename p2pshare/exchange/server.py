"""Serving blocks: one conversation a stream, bounded in requests and bytes, reads shared fairly between peers."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from p2pshare.errors import P2PShareError
from p2pshare.exchange.answers import Answerer, Buffers, Frame, Reader
from p2pshare.exchange.limits import RateLimit
from p2pshare.exchange.others import EVERY, Askers
from p2pshare.exchange.partial import Partials
from p2pshare.exchange.wire import FrameReader
from p2pshare.net.api import Network, Stream
from p2pshare.store import Store
from p2pshare_protocols.cid import CID
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_messages import (
    MAX_QUEUE,
    MAX_REQUESTS,
    PROTOCOL,
    Bad,
    Blocks,
    BlocksData,
    Cancel,
    Have,
    Held,
    Message,
    Nodes,
    NodesData,
    Other,
    Refused,
    encode,
)
from p2pshare_protocols.upload_slots import UploadSlots

MAX_BAD: Final = 16  # reports of bad blocks a stream; each costs us a read and a hash
SLOT_LOOK: Final = 0.25  # seconds between two looks whether a peer that waits has a slot now
_JOIN: Final = 64 << 10  # payloads up to this size are sent in one piece with their header
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What strangers may use. A stream holds at most `frames_ahead` + 2 frames of 2 MiB in memory."""

    streams: int = 256
    streams_per_peer: int = 8
    reads: int = 8  # frames being read at one time, for all
    frames_ahead: int = 1  # frames read but not yet being sent
    idle: float = 300.0  # seconds without a request or a byte taken by the peer
    slots: int = 32  # peers that are sent blocks at one time, and one more; the others wait in a queue


class ExchangeServer:
    """Registers itself for the exchange protocol. `upload_rate`: bytes a second for all peers together, 0: no limit."""

    def __init__(
        self,
        network: Network,
        reader: Reader,
        store: Store,
        *,
        partials: Partials | None = None,
        limits: Limits | None = None,
        upload_rate: float = 0.0,
    ) -> None:
        self.upload = RateLimit(upload_rate)
        self.partials = partials if partials is not None else Partials()
        self._store = store
        self._limits = limits if limits is not None else Limits()
        self.answerer = Answerer(store, reader, self.partials, trio.CapacityLimiter(self._limits.reads))
        self._streams: Counter[str] = Counter()
        self.slots = UploadSlots(self._limits.slots)
        self.askers = Askers(network)
        self._reader = reader
        network.handle(PROTOCOL, self.serve)

    async def serve(self, stream: Stream) -> None:
        """One conversation, to its end. Returns after a peer's mistake has reset the stream."""
        peer = stream.peer_id
        limits = self._limits
        if self._streams[peer] >= limits.streams_per_peer or self._streams.total() >= limits.streams:
            await stream.reset()
            return
        self._streams[peer] += 1
        try:
            await _Conversation(self, stream).run()
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]
                self.slots.leave(peer, trio.current_time())

    # -- for conversations --

    def sent(self, counts: Counter[bytes]) -> None:
        """Bytes of content that were sent, by a CID of the item they belong to."""
        for binary, count in counts.items():
            try:
                item = self._store.items.by_cid(CID.from_binary(binary))
                if item is None:
                    places = self._store.references.locate(binary)
                    if places and places[0].item_id:
                        self._store.items.add_sent(places[0].item_id, count)
                else:
                    self._store.items.add_sent(item.id, count)
            except (P2PShareError, RemoteProtocolError) as error:
                _log.debug("bytes sent were not counted: %s", error)
        counts.clear()

    async def bad(self, cid: CID, peer: str) -> None:
        """Read a block again that came wrong, so that neither it nor its file is offered any more when it is."""
        _log.warning("peer %s says that block %s came wrong; it is verified anew", peer, cid)
        self._reader.suspect(cid)
        try:
            await self._reader.read(cid)
        except P2PShareError as error:
            _log.warning("block %s is not served any more: %s", cid, error)

    @property
    def limits(self) -> Limits:
        return self._limits


class _Conversation:
    """Three tasks: one takes requests, one reads blocks, one sends; so that disk and network work at one time."""

    def __init__(self, server: ExchangeServer, stream: Stream) -> None:
        self._server = server
        self._stream = stream
        self._open: dict[int, bool] = {}  # unanswered ids -> still wanted
        self._bad = 0
        self._root: bytes | None = None
        self._frames: trio.MemorySendChannel[Frame] | None = None  # while what is asked for waits for a slot
        self._told_others = float("-inf")
        self._sent: Counter[bytes] = Counter()
        self._alive = trio.CancelScope()
        self._buffers = Buffers()

    async def run(self) -> None:
        requests_in, requests_out = trio.open_memory_channel[Message](MAX_REQUESTS)
        frames_in, frames_out = trio.open_memory_channel[Frame](self._server.limits.frames_ahead)
        try:
            with self._alive:
                self._touch()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._take, requests_in)
                    nursery.start_soon(self._read, requests_out, frames_in)
                    nursery.start_soon(self._send, frames_out)
                await self._stream.aclose()
                return
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except* RemoteProtocolError as group:
            _log.info("peer %s broke the exchange protocol: %s", self._stream.peer_id, group.exceptions[0])
        finally:
            self._server.sent(self._sent)
            with trio.CancelScope(shield=True):
                await self._stream.reset()

    def _touch(self) -> None:
        self._alive.deadline = trio.current_time() + self._server.limits.idle

    async def _take(self, requests: trio.MemorySendChannel[Message]) -> None:
        frames = FrameReader(self._stream)
        async with requests:
            while (message := await frames.header()) is not None:
                self._touch()
                if isinstance(message, Cancel):
                    if message.id in self._open:
                        self._open[message.id] = False
                elif isinstance(message, Bad):
                    await self._take_bad(message)
                elif isinstance(message, Have | Nodes | Blocks):
                    if message.id in self._open or len(self._open) >= MAX_REQUESTS:
                        raise RemoteProtocolError("a request's id is in use, or too many are out")
                    self._open[message.id] = True
                    if isinstance(message, Have):
                        self._root = message.root
                        if self._frames is not None:
                            await self._frames.send(self._holding(message))
                            continue
                    requests.send_nowait(message)
                else:
                    raise RemoteProtocolError("an asker sent an answer")

    async def _take_bad(self, message: Bad) -> None:
        self._bad += 1
        if self._bad > MAX_BAD:
            raise RemoteProtocolError("too many reports of bad blocks")
        await self._server.bad(CID.from_binary(message.cid), self._stream.peer_id)

    async def _read(self, requests: trio.MemoryReceiveChannel[Message], frames: trio.MemorySendChannel[Frame]) -> None:
        async with frames, requests:
            async for request in requests:
                assert isinstance(request, Have | Nodes | Blocks)
                id = request.id
                if not self._open[id]:
                    await frames.send(_ended(request))
                    continue
                if isinstance(request, Have):
                    await frames.send(self._holding(request))
                    continue
                if isinstance(request, Blocks):
                    await self._slot(frames)
                await self._server.answerer.answer(request, partial(self._wanted, id), frames.send, self._buffers)

    async def _slot(self, frames: trio.MemorySendChannel[Frame]) -> None:
        """Wait for an upload slot. HAVE is answered meanwhile, so that the peer knows its place."""
        slots, peer = self._server.slots, self._stream.peer_id
        try:
            while not slots.want(peer, trio.current_time()):
                self._frames = frames
                await trio.sleep(SLOT_LOOK)
        finally:
            self._frames = None

    def _holding(self, request: Have) -> Frame:
        """With the peer's place in the queue, and now and then with others who fetch the same."""
        server, peer, now = self._server, self._stream.peer_id, trio.current_time()
        frame = server.answerer.holding(request)
        if not request.fetching or not isinstance(frame.answer, Held):
            return frame
        others: tuple[Other, ...] = ()
        if now - self._told_others >= EVERY:
            self._told_others = now
            others = server.askers.others(request.root, peer, now)
        server.askers.note(request.root, peer, now)
        queue = min(server.slots.place(peer), MAX_QUEUE)
        return replace(frame, answer=replace(frame.answer, queue=queue, others=others))

    def _wanted(self, id: int) -> bool:
        return self._open.get(id, False)

    async def _send(self, frames: trio.MemoryReceiveChannel[Frame]) -> None:
        async with frames:
            async for frame in frames:
                # The id is free from here on: the peer may use it again once it has seen the end.
                if _is_last(frame):
                    self._open.pop(frame.answer.id, None)
                    if not self._open:
                        self._server.slots.leave(self._stream.peer_id, trio.current_time())
                await self._send_frame(frame)
                self._touch()
                if isinstance(frame.answer, BlocksData):
                    self._server.slots.sent(self._stream.peer_id, frame.payload)
                if isinstance(frame.answer, BlocksData) and self._root is not None:
                    self._sent[self._root] += frame.payload
                    if self._sent[self._root] >= 16 << 20:
                        self._server.sent(self._sent)

    async def _send_frame(self, frame: Frame) -> None:
        if frame.whole is not None and frame.buffer is not None:
            await self._send_bytes(frame.whole)
            self._buffers.give(frame.buffer)
            return
        header = encode(frame.answer)
        if len(frame.parts) > 1 or frame.payload <= _JOIN:
            await self._send_bytes(b"".join((header, *frame.parts)))
            return
        await self._send_bytes(header)
        for part in frame.parts:
            await self._send_bytes(part)

    async def _send_bytes(self, data: bytes | memoryview) -> None:
        limit, at, rest = self._server.upload, 0, memoryview(data)
        while (grain := limit.grain) and at < len(rest):
            part = rest[at : at + grain]
            await limit.take(len(part))
            await self._stream.send_all(part)
            self._touch()
            at += len(part)
        if at < len(rest):
            await self._stream.send_all(rest[at:])


def _is_last(frame: Frame) -> bool:
    return not isinstance(frame.answer, BlocksData | NodesData) or frame.answer.end


def _ended(request: Have | Nodes | Blocks) -> Frame:
    """The end of an answer that was cancelled before it began."""
    if isinstance(request, Blocks):
        return Frame(BlocksData(request.id, (), end=True))
    if isinstance(request, Nodes):
        return Frame(NodesData(request.id, (), (), end=True))
    return Frame(Refused(request.id, "cancelled"))
