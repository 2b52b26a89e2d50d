"""The asking side of /p2pshare/index/1.0.0."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from p2pshare.errors import RemoteError, TimedOut, Unreachable
from p2pshare.net.api import Network
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.index_answer import AnswerReader
from p2pshare_protocols.index_browse import Browse
from p2pshare_protocols.index_browse import encode as encode_browse
from p2pshare_protocols.index_messages import PROTOCOL, End, Row, encode_request
from p2pshare_protocols.query import Query

_CHUNK: Final = 64 << 10  # bytes taken from the stream at once


class IndexClient:
    def __init__(self, net: Network) -> None:
        self._net = net

    async def ask(
        self,
        peer_id: str,
        query: Query,
        tell: Callable[[Row], Awaitable[None]],
        *,
        limit: int,
        timeout: float = 10.0,
    ) -> bool:
        """Ask one peer; `tell` gets each row, checked, matching and cleaned, as it arrives.

        True when the peer says that nothing was left out. `timeout` (seconds) is for all of it. Raises Unreachable,
        TimedOut, or RemoteError(kind="failed") when the peer does not speak the protocol or breaks it.
        """
        reader = AnswerReader(query, limit, peer_id)
        exchange = self._exchange(peer_id, encode_request(query, limit), reader, tell, timeout)
        return (await self._bounded(exchange, timeout)).complete

    async def _bounded(self, exchange: Awaitable[End], timeout: float) -> End:
        try:
            with trio.fail_after(timeout):
                return await exchange
        except trio.TooSlowError:
            raise TimedOut("a peer did not answer a search in time") from None
        except RemoteProtocolError as error:
            raise RemoteError(f"a peer's answer to a search is not allowed: {error}", kind="failed") from None
        except trio.BrokenResourceError:
            raise Unreachable("the connection to a peer was lost while it was asked") from None

    async def browse(
        self, peer_id: str, request: Browse, tell: Callable[[Row], Awaitable[None]], *, timeout: float = 10.0
    ) -> End:
        """A page of what a peer shares; `tell` gets each row, checked and cleaned. Raises as `ask`."""
        reader = AnswerReader(None, request.limit, peer_id)
        return await self._bounded(self._exchange(peer_id, encode_browse(request), reader, tell, timeout), timeout)

    async def _exchange(
        self,
        peer_id: str,
        request: bytes,
        reader: AnswerReader,
        tell: Callable[[Row], Awaitable[None]],
        timeout: float,
    ) -> End:
        async with await self._net.open_stream(peer_id, [PROTOCOL], timeout=timeout) as stream:
            await stream.send_all(request)
            await stream.send_eof()
            while reader.end is None:
                for row in reader.receive_data(bytes(await stream.receive_some(_CHUNK))):
                    await tell(row)
            return reader.end
