"""A client of the control socket with nothing but the standard library and msgpack.

from p2pshare_cli.client import Client
with Client() as node:
    job = node.call("fetch.start", link="p2pshare:…", path="/tmp/x")
    for event in node.watch(job["job"]): print(event)
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack

from p2pshare_cli.errors import CommandError
from p2pshare_cli.home import find_places

READ_SIZE = 256 * 1024
SOCKET_PATH_LIMIT = 107  # bytes of sun_path that Linux takes, without the final zero


class Client:
    """One connection to the daemon of a home. Not for use from several threads at once."""

    def __init__(self, socket_path: str | Path | None = None, *, timeout: float | None = None) -> None:
        self._path = Path(socket_path) if socket_path is not None else Path(find_places().socket)
        self._timeout = timeout
        self._next_id = 0
        self._unpacker = msgpack.Unpacker(raw=False, unicode_errors="surrogateescape", max_buffer_size=64 * 1024 * 1024)
        self._socket: socket.socket | None = None

    def __enter__(self) -> Client:
        if self._socket is None:
            self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Open the socket. Raises CommandError(kind="daemon-not-running" or "permission")."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            _connect(connection, self._path)
        except PermissionError:
            connection.close()
            raise CommandError(
                "permission",
                f"the control socket {self._path} belongs to another user",
                "Run as the user who started the daemon, or set P2PSHARE_HOME to a home of your own.",
            ) from None
        except OSError:
            connection.close()
            raise CommandError(
                "daemon-not-running",
                f"no daemon answers at {self._path}",
                "Start it with: p2pshare daemon start",
            ) from None
        self._socket = connection

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, method: str, **params: Any) -> Any:
        """The result of a plain method, or the final result of a stream. Raises CommandError."""
        result = None
        for what, value in self._exchange(method, params):
            if what == "result":
                result = value
        return result

    def stream(self, method: str, **params: Any) -> Iterator[dict[str, Any]]:
        """The events of a stream method as they come, its final result last. Raises CommandError."""
        for _what, value in self._exchange(method, params):
            if isinstance(value, dict):
                yield value

    def watch(self, job: int) -> Iterator[dict[str, Any]]:
        """The events of a job until it is done; a failed job raises CommandError."""
        return self.stream("jobs.watch", job=job)

    def _exchange(self, method: str, params: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        request = self._send(method, params)
        while True:
            message = self._receive()
            if message.get("method") == "stream":
                body = message.get("params", {})
                if body.get("id") == request:
                    yield "event", body.get("event")
            elif message.get("id") == request:
                if "error" in message:
                    raise _as_error(message["error"])
                yield "result", message.get("result")
                return

    def _send(self, method: str, params: dict[str, Any]) -> int:
        if self._socket is None:
            self.connect()
        assert self._socket is not None
        self._next_id += 1
        given = {key: value for key, value in params.items() if value is not None}
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": given}
        try:
            self._socket.sendall(msgpack.packb(message, use_bin_type=True, unicode_errors="surrogateescape"))
        except OSError as error:
            raise _lost(error) from None
        return self._next_id

    def _receive(self) -> dict[str, Any]:
        assert self._socket is not None
        while True:
            try:
                message = next(self._unpacker)
            except StopIteration:
                try:
                    data = self._socket.recv(READ_SIZE)
                except TimeoutError:
                    raise CommandError("timeout", "the daemon did not answer in time") from None
                except OSError as error:
                    raise _lost(error) from None
                if not data:
                    raise _lost(None) from None
                self._unpacker.feed(data)
                continue
            if isinstance(message, dict):
                return message


def _connect(connection: socket.socket, path: Path) -> None:
    name = os.fsencode(path)
    if len(name) <= SOCKET_PATH_LIMIT:
        connection.connect(name)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def _lost(error: OSError | None) -> CommandError:
    reason = f": {error.strerror}" if error is not None and error.strerror else ""
    return CommandError(
        "daemon-not-running",
        f"the daemon closed the connection{reason}",
        "See what it says: p2pshare daemon log",
    )


def _as_error(error: Any) -> CommandError:
    body: dict[str, Any] = error if isinstance(error, dict) else {}
    data: dict[str, Any] = body.get("data") or {}
    fallback = "usage" if body.get("code") in (-32700, -32600, -32601, -32602) else "internal"
    return CommandError(
        str(data.get("kind", fallback)),
        str(body.get("message", "the daemon gave no reason")),
        str(data.get("hint", "")),
        bool(data["retryable"]) if "retryable" in data else None,
    )
