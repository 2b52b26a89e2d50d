"""One connection that speaks messages (JSON lines or msgpack): requests in, answers out as they are done.

    reader task -> parse -> one task a request -> bounded queue -> writer task

A request's task may be cancelled at any time; only the writer touches the socket, so that no message is ever cut.
"""

from __future__ import annotations

import trio

from p2pshare.control.api import Host
from p2pshare.control.channel import READ_SIZE, SlowReader, send, wait_hangup
from p2pshare.control.dispatch import CallFailed, prepare
from p2pshare.control.methods import METHODS
from p2pshare_protocols import control
from p2pshare_protocols.control import Framing, InvalidRequest, MalformedMessage, MessageReader, Request
from p2pshare_protocols.errors import RemoteProtocolError

MAX_IN_FLIGHT = 64
MAX_STREAMS = 32
QUEUE = 16  # answers that wait for the writer


class MessageConnection:
    def __init__(self, stream: trio.SocketStream, framing: Framing, host: Host) -> None:
        self._stream = stream
        self._framing = framing
        self._host = host
        self._reader = MessageReader(framing)
        self._room = trio.Semaphore(MAX_IN_FLIGHT)
        self._streams = 0
        self._scopes: dict[control.RequestId, trio.CancelScope] = {}
        self._reading = trio.CancelScope()
        self._send: trio.MemorySendChannel[bytes]
        self._send, self._answers = trio.open_memory_channel[bytes](QUEUE)

    async def run(self, first: bytes) -> None:
        """Serve until the client closes and its last answer is sent. `first` is what was read to tell the framing."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            async with self._send, trio.open_nursery() as requests:
                half_closed = False
                with self._reading:
                    half_closed = await self._read(first, requests)
                if half_closed:
                    requests.start_soon(self._leave_on_hangup, requests)

    @property
    def busy(self) -> bool:
        """Whether a call is in flight."""
        return bool(self._scopes)

    def cancel_requests(self) -> None:
        """End every request in flight with an error of kind cancelled: the daemon stops."""
        for scope in list(self._scopes.values()):
            scope.cancel()

    def finish(self) -> None:
        """Cancel the requests, take no new ones, and end when the last answers are sent."""
        self.cancel_requests()
        self._reading.cancel()

    async def _write(self, connection: trio.CancelScope) -> None:
        try:
            async for message in self._answers:
                await send(self._stream, message)
        except (SlowReader, trio.BrokenResourceError):
            connection.cancel()

    async def _leave_on_hangup(self, requests: trio.Nursery) -> None:
        """After the client's half close: its requests end when they are done, or when it is gone."""
        done = trio.Event()
        with trio.CancelScope() as watching:
            requests.start_soon(self._tell_when_idle, done, watching)
            await wait_hangup(self._stream.socket)
        if not done.is_set():
            requests.cancel_scope.cancel()

    async def _tell_when_idle(self, done: trio.Event, watching: trio.CancelScope) -> None:
        for _ in range(MAX_IN_FLIGHT):  # all the room is free: no request is left
            await self._room.acquire()
        done.set()
        watching.cancel()

    async def _read(self, first: bytes, requests: trio.Nursery) -> bool:
        """Read and start requests until the end (True) or until the bytes make no sense any more (False)."""
        data = first
        while True:
            try:
                self._reader.feed(data or (b"\n" if self._framing is Framing.JSON else b""))
                await self._take(requests)
            except RemoteProtocolError as error:
                await self._refuse(None, str(error))
                return False
            if not data:
                return True
            try:
                data = await self._stream.receive_some(READ_SIZE)
            except trio.BrokenResourceError:
                requests.cancel_scope.cancel()
                return False

    async def _take(self, requests: trio.Nursery) -> None:
        """Start every request that has arrived whole."""
        while True:
            try:
                for message in self._reader.messages():
                    await self._start(message, requests)
                return
            except MalformedMessage as error:
                await self._refuse(None, str(error), control.PARSE_ERROR)

    async def _start(self, message: dict[str, object], requests: trio.Nursery) -> None:
        try:
            request = control.parse_request(message)
        except InvalidRequest as error:
            await self._refuse(error.id, str(error), error.code)
            return
        if request.method == "cancel" and request.id is None:
            self._cancel(request)
            return
        if request.id is not None and request.id in self._scopes:
            await self._refuse(request.id, f"a request with id {request.id!r} is in flight already")
            return
        method = METHODS.get(request.method)
        is_stream = method is not None and method.is_stream
        if is_stream and self._streams == MAX_STREAMS:
            refusal = f"{MAX_STREAMS} streams are open on this connection"
            await self._refuse(request.id, refusal, control.APPLICATION_ERROR, "blocked")
            return
        await self._room.acquire()
        self._streams += is_stream
        # A notification has no id to be cancelled by, but the daemon's stop must find it too.
        key = request.id if request.id is not None else f"\0{id(request)}"
        scope = self._scopes[key] = trio.CancelScope()
        requests.start_soon(self._answer, request, key, scope, is_stream)

    def _cancel(self, request: Request) -> None:
        target = request.params.get("id")
        if isinstance(target, (int, str)) and target in self._scopes:
            self._scopes[target].cancel()

    async def _answer(self, request: Request, key: control.RequestId, scope: trio.CancelScope, is_stream: bool) -> None:
        try:
            answer = await self._outcome(request, scope)
        finally:
            del self._scopes[key]
            self._streams -= is_stream
        if request.id is not None:
            await self._send.send(answer)
        self._room.release()

    async def _outcome(self, request: Request, scope: trio.CancelScope) -> bytes:
        async def emit(event: dict[str, object]) -> None:
            if request.id is not None:
                await self._send.send(self._encode(control.stream_event(request.id, event)))

        answer = control.failure(
            request.id, control.APPLICATION_ERROR, f"{request.method} was cancelled", kind="cancelled"
        )
        try:
            with scope:
                call = prepare(self._host, request.method, request.params)
                answer = control.result(request.id, await call.run(emit))
            return self._encode(answer)
        except CallFailed as failed:
            return self._encode(failed.response(request.id))

    def _encode(self, message: dict[str, object]) -> bytes:
        return control.encode(self._framing, message)

    async def _refuse(
        self, id: control.RequestId, message: str, code: int = control.INVALID_REQUEST, kind: str = "usage"
    ) -> None:
        await self._send.send(self._encode(control.failure(id, code, message, kind=kind)))
