"""The asker's side of /p2pshare/index/1.0.0: an answer's bytes in, rows out, the limits of a whole answer kept."""

from __future__ import annotations

from .errors import RemoteProtocolError
from .index_messages import LENGTH, MAX_ANSWER, MAX_PAGE, End, Row, decode_answer, frame_length
from .query_model import Query


class AnswerReader:
    """Feed it what the stream gives. Rows that do not match the query are dropped and counted in `strays`; with None
    for a query every row was asked for.

    `end` is None until the answer's last frame. `answerer` is the peer ID that the session proved.
    """

    def __init__(self, query: Query | None, limit: int, answerer: str) -> None:
        self._query = query
        self._room = limit
        self._answerer = answerer
        self._buffer = bytearray()
        self._received = 0
        self.strays = 0
        self.end: End | None = None

    def receive_data(self, data: bytes) -> list[Row]:
        """The rows that these bytes complete; b"" is the end of the stream. Raises RemoteProtocolError."""
        if not data:
            if self.end is None:
                raise RemoteProtocolError("the answer stops before its end")
            return []
        self._received += len(data)
        if self._received > MAX_ANSWER:
            raise RemoteProtocolError(f"an answer is longer than {MAX_ANSWER} bytes")
        if self.end is not None:
            raise RemoteProtocolError("an answer has bytes behind its end")
        self._buffer += data
        rows: list[Row] = []
        while self.end is None and (body := self._next_frame()) is not None:
            message = decode_answer(body, self._answerer)
            if isinstance(message, End):
                self.end = message
                if self._buffer:
                    raise RemoteProtocolError("an answer has bytes behind its end")
            else:
                rows += self._kept(message.rows)
        return rows

    def _next_frame(self) -> bytes | None:
        if len(self._buffer) < LENGTH:
            return None
        length = frame_length(self._buffer[:LENGTH], MAX_PAGE)
        if len(self._buffer) < LENGTH + length:
            return None
        body = bytes(self._buffer[LENGTH : LENGTH + length])
        del self._buffer[: LENGTH + length]
        return body

    def _kept(self, rows: tuple[Row, ...]) -> list[Row]:
        kept = []
        for row in rows:
            if self._room == 0:
                raise RemoteProtocolError("an answer has more rows than were asked for")
            self._room -= 1
            if self._query is None or self._query.matches(row.record()):
                kept.append(row)
            else:
                self.strays += 1
        return kept
