"""One connection that speaks HTTP/1.1, for curl: GET or POST /v1/METHOD (protocols/control.md, "HTTP").

h11 reads and writes; what is done with a request is in `dispatch`, as for every other framing.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import Any, Final

import h11
import trio

from p2pshare.control.api import Answer, Emit, Host
from p2pshare.control.channel import READ_SIZE, SlowReader, send, wait_hangup
from p2pshare.control.dispatch import Call, CallFailed, prepare
from p2pshare.control.methods import METHODS
from p2pshare.control.registry import Param
from p2pshare_protocols import control
from p2pshare_protocols.errors import RemoteProtocolError

MAX_HEAD = 1 << 14  # bytes of a request line with its headers
MAX_FIELDS = 2048  # of a query
PREFIX = "/v1/"

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

_STATUS = {
    "usage": 400,
    "config": 400,
    "permission": 403,
    "blocked": 403,
    "not-found": 404,
    "exists": 409,
    "locked": 409,
    "daemon-not-running": 503,
    "timeout": 504,
}


class _Refused(Exception):
    """A request that is answered with `status` without a call."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Request:
    verb: str
    target: str
    body: bytes
    from_browser: bool


class HttpConnection:
    def __init__(self, stream: trio.SocketStream, host: Host) -> None:
        self._stream = stream
        self._host = host
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._reading = trio.CancelScope()  # of the request that is awaited
        self._calling = trio.CancelScope()  # of the call that is answered
        self._in_call = False
        self._finishing = False
        self._cut = False  # a chunk was sent in part: nothing can follow it

    async def run(self, first: bytes) -> None:
        """Serve one request after the other until the client closes. `first` is what was read already."""
        self._http.receive_data(first)
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
        except (SlowReader, trio.BrokenResourceError):
            return  # the client is gone

    @property
    def busy(self) -> bool:
        """Whether a call is in flight."""
        return self._in_call

    def cancel_requests(self) -> None:
        """End the request in flight with an error of kind cancelled: the daemon stops."""
        self._calling.cancel()

    def finish(self) -> None:
        """Cancel the request, take no new one, and end when the last answer is sent."""
        self._finishing = True
        self.cancel_requests()
        self._reading.cancel()

    async def _serve_one(self) -> bool:
        """One request and its answer. True when another may follow on this connection."""
        try:
            request: _Request | None = None
            with trio.CancelScope() as self._reading:
                request = await self._read_request()
            if request is None:
                return False
            call = self._prepare(request)
        except h11.RemoteProtocolError as error:
            await self._fail(error.error_status_hint, str(error), close=True)
            return False
        except _Refused as refused:
            await self._fail(refused.status, str(refused), close=self._http.their_state is not h11.DONE)
        except CallFailed as failed:
            await self._fail_with(failed)
        else:
            await self._answer(call)
        if self._finishing:
            return False
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _read_request(self) -> _Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(await self._stream.receive_some(READ_SIZE))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > control.MAX_REQUEST:
                    raise _Refused(413, f"the body is longer than {control.MAX_REQUEST} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                names = {name for name, _ in head.headers}
                return _Request(head.method.decode(), head.target.decode("latin-1"), bytes(body), b"origin" in names)
            else:  # the client closed
                return None

    def _prepare(self, request: _Request) -> Call:
        if request.from_browser:
            raise _Refused(403, "a web page may not use this socket")
        path, _, query = request.target.partition("?")
        if not path.startswith(PREFIX):
            raise _Refused(404, f"the methods are under {PREFIX}")
        if request.verb not in {"GET", "POST"}:
            raise _Refused(405, "only GET and POST are answered")
        name = urllib.parse.unquote(path.removeprefix(PREFIX)).strip("/").replace("/", ".")
        method = METHODS.get(name)
        if request.verb == "GET" and method is not None and method.changes:
            raise _Refused(405, f"{name} changes something: use POST")
        params = _read_query(query, method.by_name if method is not None else {})
        return prepare(self._host, name, params | _read_body(request.body))

    async def _answer(self, call: Call) -> None:
        if call.method.is_stream:
            await self._answer_stream(call)
            return
        try:
            answer = control.encode_json(await self._run(call, _no_events)) + b"\n"
        except CallFailed as failed:
            await self._fail_with(failed)
            return
        await self._write(*self._whole(200, answer))

    async def _run(self, call: Call, emit: Emit) -> Answer:
        self._in_call = True
        try:
            with trio.CancelScope() as self._calling:
                return await call.run(emit)
        finally:
            self._in_call = False
        raise CallFailed(control.APPLICATION_ERROR, f"{call.method.name} was cancelled", kind="cancelled")

    async def _answer_stream(self, call: Call) -> None:
        """Events as lines, as they come. The status is sent first: a later error is the last line."""
        headers = [("Content-Type", NDJSON), ("Server", "p2pshare"), ("Transfer-Encoding", "chunked")]
        await self._write(h11.Response(status_code=200, headers=headers))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_on_hangup, nursery.cancel_scope)

            async def emit(event: dict[str, Any]) -> None:
                try:
                    await self._write_line(event)
                except (SlowReader, trio.BrokenResourceError):
                    nursery.cancel_scope.cancel()  # the client's fault, not the method's: it must not see an error
                    await trio.lowlevel.checkpoint()

            try:
                last = await self._run(call, emit)
            except CallFailed as failed:
                last = failed.event()
            await emit(last)
            await self._write(h11.EndOfMessage())
            nursery.cancel_scope.cancel()

    async def _write_line(self, event: dict[str, Any]) -> None:
        line = self._http.send(h11.Data(data=control.encode_json(event) + b"\n"))
        if self._cut:
            raise trio.BrokenResourceError("the last line was cut by a cancellation")
        self._cut = True
        await send(self._stream, line or b"")
        self._cut = False

    async def _end_on_hangup(self, scope: trio.CancelScope) -> None:
        await wait_hangup(self._stream.socket)
        scope.cancel()

    async def _fail_with(self, failed: CallFailed) -> None:
        status = 404 if failed.code == control.METHOD_NOT_FOUND else _STATUS.get(failed.kind, 500)
        body = control.encode_json(failed.response(None)["error"])
        await self._write(*self._whole(status, body + b"\n"))

    async def _fail(self, status: int, message: str, *, close: bool) -> None:
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        kind = "blocked" if status == 403 else "not-found" if status == 404 else "usage"
        body = control.encode_json(control.failure(None, control.INVALID_REQUEST, message, kind=kind)["error"])
        await self._write(*self._whole(status, body + b"\n", close=close))

    def _whole(self, status: int, body: bytes, *, close: bool = False) -> tuple[h11.Event, ...]:
        headers = [("Content-Type", JSON), ("Content-Length", str(len(body))), ("Server", "p2pshare")]
        if close:
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=status, headers=headers)
        return response, h11.Data(data=body), h11.EndOfMessage()

    async def _write(self, *events: h11.Event) -> None:
        data = b"".join(self._http.send(event) or b"" for event in events)
        await send(self._stream, data)


async def _no_events(_event: dict[str, Any]) -> None:
    """A plain method emits nothing."""


def _read_body(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        tree = control.decode_json(body)
    except RemoteProtocolError as error:
        raise _Refused(400, f"the body is {error}") from error
    if not isinstance(tree, dict):
        raise _Refused(400, "the body must be a JSON object: parameters are by name")
    return tree


def _read_query(query: str, params: Any) -> dict[str, Any]:
    """Parameters of a URL, read by the type that the method gives them; what does not fit is left for it to refuse."""
    try:
        pairs = urllib.parse.parse_qsl(
            query, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="surrogateescape"
        )
    except ValueError as error:
        raise _Refused(400, f"the query cannot be read: {error}") from error
    values: dict[str, Any] = {}
    for name, text in pairs:
        param: Param | None = params.get(name)
        if param is None and f"{name}s" in params:  # ?topic=a&topic=b: each entry of a list under its singular
            name = f"{name}s"
            param = params[name]
        if param is not None and param.type in {"texts", "paths"}:
            values.setdefault(name, []).append(text)
        else:
            values[name] = text if param is None else _read_value(param, text)
    return values


def _read_value(param: Param, text: str) -> object:
    if param.type == "boolean":
        return {"true": True, "1": True, "": True, "false": False, "0": False}.get(text, text)
    if param.type in {"integer", "number"} and len(text) <= 32:
        try:
            return int(text) if param.type == "integer" else float(text)
        except ValueError:
            return text
    return text
