"""The asking side of an exchange stream, without I/O: which requests are out, and which answers are allowed.

Answers to different requests may come in any order; the blocks of one request come in the order asked. A cancelled
request still gets its end, so that both sides agree on what is out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.exchange_messages import (
    MAX_CIDS,
    MAX_REQUESTS,
    Bad,
    Blocks,
    BlocksData,
    Cancel,
    Have,
    Held,
    Message,
    Nodes,
    NodesData,
    Refused,
    encode,
)


@dataclass(slots=True)
class _Out:
    request: Have | Nodes | Blocks
    answered: int = 0  # blocks so far
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """An allowed answer. Of Blocks, `first` is the place in `request.cids` of the frame's first block.

    `ended`: nothing more comes for this request. `wanted` is False when it was cancelled before.
    """

    request: Have | Nodes | Blocks
    answer: Held | NodesData | BlocksData | Refused
    first: int
    ended: bool
    wanted: bool


class Client:
    """One stream's requests. The methods return bytes to send; `receive` takes what `decode` gave."""

    def __init__(self) -> None:
        self._out: dict[int, _Out] = {}
        self._next_id = 1

    @property
    def outstanding(self) -> int:
        return len(self._out)

    def have(self, root: bytes, *, fetching: bool = False) -> tuple[int, bytes]:
        return self._ask(Have(self._next_id, root, fetching))

    def nodes(self, cids: Sequence[bytes]) -> tuple[int, bytes]:
        return self._ask(Nodes(self._next_id, tuple(cids)))

    def blocks(self, cids: Sequence[bytes]) -> tuple[int, bytes]:
        return self._ask(Blocks(self._next_id, tuple(cids)))

    def _ask(self, request: Have | Nodes | Blocks) -> tuple[int, bytes]:
        if len(self._out) >= MAX_REQUESTS:
            raise LocalProtocolError("too many exchange requests are out")
        if not isinstance(request, Have) and not 0 < len(request.cids) <= MAX_CIDS:
            raise LocalProtocolError(f"an exchange request for {len(request.cids)} blocks")
        self._out[request.id] = _Out(request)
        self._next_id = self._next_id % 0xFFFF_FFFF + 1
        return request.id, encode(request)

    def cancel(self, id: int) -> bytes:
        """Nothing to send when the request has ended or was cancelled before."""
        out = self._out.get(id)
        if out is None or out.cancelled:
            return b""
        out.cancelled = True
        return encode(Cancel(id))

    @staticmethod
    def bad(cid: bytes) -> bytes:
        return encode(Bad(cid))

    def receive(self, message: Message) -> Received:
        """Check an answer before its payload is read. Raises RemoteProtocolError when nothing asked for it."""
        if isinstance(message, Have | Nodes | Blocks | Cancel | Bad):
            raise RemoteProtocolError("a holder sent a request on the asker's stream")
        out = self._out.get(message.id)
        if out is None:
            raise RemoteProtocolError("an answer to a request that is not out")
        first = out.answered
        match out.request, message:
            case _, Refused():
                ended = True
            case Have(), Held():
                ended = True
            case Nodes(), NodesData():
                ended = message.end
            case Blocks(), BlocksData():
                ended = self._blocks(out, message)
            case _:
                raise RemoteProtocolError("an answer of the wrong type")
        if ended:
            del self._out[message.id]
        return Received(out.request, message, first, ended, not out.cancelled)

    @staticmethod
    def _blocks(out: _Out, answer: BlocksData) -> bool:
        assert isinstance(out.request, Blocks)
        out.answered += len(answer.sizes)
        asked = len(out.request.cids)
        if out.answered > asked:
            raise RemoteProtocolError("more blocks came than were asked for")
        if answer.end and out.answered < asked and not out.cancelled:
            raise RemoteProtocolError("an answer ended before the last block")
        return answer.end
