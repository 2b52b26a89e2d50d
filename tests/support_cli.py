"""A daemon's end of the control socket with scripted answers, for what a real daemon cannot be made to say."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack

Answers = dict[str, Callable[[dict[str, Any]], list[dict[str, Any]]]]


def result(value: Any) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    return lambda _params: [{"result": value}]


def stream(*events: dict[str, Any], end: dict[str, Any]) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    return lambda _params: [*({"event": event} for event in events), {"result": end}]


def failure(kind: str, message: str, hint: str = "") -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    error = {"code": -32000, "message": message, "data": {"kind": kind, "hint": hint, "retryable": False}}
    return lambda _params: [{"error": error}]


@contextmanager
def scripted_daemon(home: Path, answers: Answers) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Serves `answers` on home/control.sock; yields the list of (method, params) as they were asked."""
    home.mkdir(mode=0o700, exist_ok=True)
    asked: list[tuple[str, dict[str, Any]]] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(home / "control.sock"))
    listener.listen()
    thread = threading.Thread(target=_serve, args=(listener, answers, asked), daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _serve(listener: socket.socket, answers: Answers, asked: list[tuple[str, dict[str, Any]]]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            unpacker = msgpack.Unpacker(raw=False)
            while data := connection.recv(65536):
                unpacker.feed(data)
                for message in unpacker:
                    asked.append((message["method"], message["params"]))
                    for part in answers[message["method"]](message["params"]):
                        connection.sendall(msgpack.packb(_framed(message["id"], part)))


def _framed(request: int, part: dict[str, Any]) -> dict[str, Any]:
    if "event" in part:
        return {"jsonrpc": "2.0", "method": "stream", "params": {"id": request, "event": part["event"]}}
    return {"jsonrpc": "2.0", "id": request, **part}
