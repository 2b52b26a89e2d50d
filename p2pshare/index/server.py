"""The answering side of /p2pshare/index/1.0.0: from the own catalogue, never more than was allowed."""

from __future__ import annotations

import logging
from typing import Final

import trio

from p2pshare.errors import RemoteError
from p2pshare.index.limits import Allowance
from p2pshare.index.rows import rows_of
from p2pshare.net.api import Network, Stream
from p2pshare.store import Store
from p2pshare_protocols.errors import RemoteProtocolError
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
_REQUEST_TIME: Final = 10.0  # seconds for the request to arrive
_ANSWER_TIME: Final = 30.0  # seconds for the answer to be taken

logger = logging.getLogger(__name__)


class IndexServer:
    """Answers from now on as long as the network lives. Only items shared with `--index` and unchanged are told."""

    def __init__(self, net: Network, store: Store, *, allowance: Allowance | None = None) -> None:
        self._peer_id = net.peer_id
        self._store = store
        self._allowance = Allowance(trio.current_time()) if allowance is None else allowance
        self._under_way = 0
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
            with trio.fail_after(_REQUEST_TIME):
                length = frame_length(await stream.receive_exactly(LENGTH), MAX_REQUEST)
                body = await stream.receive_exactly(length)
            answer = self._look_up(stream.peer_id, body)
            with trio.fail_after(_ANSWER_TIME):
                await stream.send_all(answer)
        except trio.TooSlowError:
            raise RemoteError("the peer is too slow to ask or to take the answer", kind="timeout") from None
        except RemoteProtocolError as error:
            raise RemoteError(f"the peer's question is not understood: {error}", kind="failed") from None

    def _look_up(self, peer_id: str, body: bytes) -> bytes:
        """All frames of the answer to the request `body`. The time it takes is on `peer_id`'s account."""
        begin = trio.current_time()
        query, limit = decode_request(body)
        found = rows_of(self._store, query, limit, peer_id=self._peer_id, for_strangers=True)
        rows = [encode_row(row) for row in found.rows]
        told = [row for row in rows if row is not None]
        frames, everything = encode_pages(told)
        now = trio.current_time()
        self._allowance.spend(peer_id, now - begin, now)
        complete = found.complete and everything and len(told) == len(rows)
        return b"".join(frames) + encode_end(complete=complete)
