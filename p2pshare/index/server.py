"""The answering side of /p2pshare/index/1.0.0: from the own catalogue, never more than was allowed."""

from __future__ import annotations

import logging
from typing import Any, Final

import trio

from p2pshare.errors import RemoteError
from p2pshare.index import browse
from p2pshare.index.keeping import Keeper
from p2pshare.index.limits import Allowance
from p2pshare.index.rows import Run, in_threads, rows_of
from p2pshare.net.api import Network, Stream
from p2pshare.store import Store
from p2pshare_protocols import index_browse, index_hot
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.index_browse import Browse
from p2pshare_protocols.index_messages import (
    LENGTH,
    MAX_REQUEST,
    PROTOCOL,
    decode_request,
    encode_end,
    encode_pages,
    encode_row,
    frame_length,
)

_AT_ONCE: Final = 16  # answers under way; an answer holds at most 256 KiB
_SEARCHES: Final = 2  # worker threads that search the catalogue for strangers
_REQUEST_TIME: Final = 10.0  # seconds for the request to arrive
_REQUESTS: Final = 256  # on one stream
_ANSWER_TIME: Final = 30.0  # seconds for the answer to be taken

logger = logging.getLogger(__name__)


class IndexServer:
    """Answers from now on as long as the network lives. Only items shared with `--index` and unchanged are told.

    With a `keeper` it also keeps postings of others and finds among them.
    """

    def __init__(
        self,
        net: Network,
        store: Store,
        *,
        allowance: Allowance | None = None,
        keeper: Keeper | None = None,
        run: Run | None = None,
    ) -> None:
        self._keeper = keeper
        self._peer_id = net.peer_id
        self._store = store
        self._allowance = Allowance(trio.current_time()) if allowance is None else allowance
        self._under_way = 0
        self._placing: set[str] = set()
        self._run = in_threads(_SEARCHES) if run is None else run
        net.handle(PROTOCOL, self.serve)

    async def serve(self, stream: Stream) -> None:
        """One request, one answer. Raises RemoteError when the peer does what the protocol does not allow."""
        async with stream:
            if self._under_way >= _AT_ONCE or not self._allowance.take(stream.peer_id, trio.current_time()):
                logger.debug("peer %s asks too often; it gets no answer", stream.peer_id)
                with trio.move_on_after(_REQUEST_TIME):
                    await stream.send_all(encode_end(complete=False))
                return
            self._under_way += 1
            try:
                await self._answer(stream)
            finally:
                self._under_way -= 1

    async def _answer(self, stream: Stream) -> None:
        try:
            body = await self._read(stream, wire.MAX_FRAME if self._keeper is not None else MAX_REQUEST)
            message = wire.unpack(body)
            if message.get("op") == index_browse.OP:
                await self._send(stream, self._browse(stream.peer_id, index_browse.read(message)))
                return
            if self._keeper is not None and self._keeper.hot is not None and message.get("op") == index_hot.OP:
                taken = await self._keeper.hot.take(stream.peer_id, index_hot.read(message))
                await self._send(stream, wire.encode(wire.Kept((int(taken),))))
                return
            if self._keeper is not None and "op" in message:
                await self._keep(stream, self._keeper, message)
                return
            await self._send(stream, await self._look_up(stream.peer_id, body))
        except trio.TooSlowError:
            raise RemoteError("the peer is too slow to ask or to take the answer", kind="timeout") from None
        except RemoteProtocolError as error:
            raise RemoteError(f"the peer's question is not understood: {error}", kind="failed") from None

    async def _keep(self, stream: Stream, keeper: Keeper, message: dict[str, Any]) -> None:
        """Requests about postings, one after the other until the peer ends. Who places has one stream at a time."""
        places = message["op"] != "find"
        if places:
            if stream.peer_id in self._placing or len(self._placing) >= _AT_ONCE:
                raise RemoteError("there is no room for another who places postings", kind="failed")
            self._placing.add(stream.peer_id)
            self._under_way -= 1  # it may take long, and must not keep those away who ask
        try:
            for _ in range(_REQUESTS if places else 1):
                await self._send(stream, await keeper.answer(stream, wire.read_request(message)))
                if places:
                    message = wire.unpack(await self._read(stream, wire.MAX_FRAME))
        except trio.BrokenResourceError:
            return
        finally:
            if places:
                self._placing.discard(stream.peer_id)
                self._under_way += 1

    async def _read(self, stream: Stream, most: int) -> bytes:
        with trio.fail_after(_REQUEST_TIME):
            length = frame_length(await stream.receive_exactly(LENGTH), most)
            return await stream.receive_exactly(length)

    async def _send(self, stream: Stream, answer: bytes) -> None:
        with trio.fail_after(_ANSWER_TIME):
            await stream.send_all(answer)

    def _browse(self, peer_id: str, request: Browse) -> bytes:
        begin = trio.current_time()
        frames = browse.answer(self._store, request, self._peer_id)
        self._allowance.spend(peer_id, trio.current_time() - begin, trio.current_time())
        return frames

    async def _look_up(self, peer_id: str, body: bytes) -> bytes:
        """All frames of the answer to the request `body`. The time it takes is on `peer_id`'s account."""
        begin = trio.current_time()
        query, limit = decode_request(body)
        found = await rows_of(self._store, query, limit, peer_id=self._peer_id, for_strangers=True, run=self._run)
        rows = [encode_row(row) for row in found.rows]
        told = [row for row in rows if row is not None]
        frames, everything = encode_pages(told)
        now = trio.current_time()
        self._allowance.spend(peer_id, now - begin, now)
        complete = found.complete and everything and len(told) == len(rows)
        return b"".join(frames) + encode_end(complete=complete)
