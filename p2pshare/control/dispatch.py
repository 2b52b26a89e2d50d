"""From a method's name and parameters to its answer; and every error mapped, once, to what goes on the wire."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from p2pshare.control.api import Answer, Emit, Host
from p2pshare.control.methods import METHODS
from p2pshare.control.registry import InvalidParams, Method
from p2pshare.errors import P2PShareError
from p2pshare_protocols import control
from p2pshare_protocols.errors import KINDS

HostMethod: TypeAlias = "Callable[[Host, dict[str, Any]], Awaitable[Answer]]"

logger = logging.getLogger(__name__)


class CallFailed(Exception):
    """A call's error as it goes on the wire."""

    def __init__(self, code: int, message: str, *, kind: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.kind = kind
        self.hint = hint

    def response(self, id: control.RequestId) -> dict[str, object]:
        return control.failure(id, self.code, self.message, kind=self.kind, hint=self.hint)

    def event(self) -> dict[str, object]:
        """As EXPERIENCE writes an error into a line of JSON."""
        data = {"kind": self.kind, "message": self.message, "hint": self.hint}
        return {"event": "error", **data, "retryable": KINDS[self.kind].retryable}


@dataclass(frozen=True, slots=True)
class Call:
    """A method with checked parameters; `run` gives its answer or raises CallFailed."""

    method: Method
    values: dict[str, Any]
    host: Host

    async def run(self, emit: Emit) -> Answer:
        try:
            if self.method.runs == "host":
                return await _HOST_METHODS[self.method.name](self.host, self.values)
            node = await self.host.node()
            function = getattr(node, self.method.attribute)
            arguments = (emit,) if self.method.is_stream else ()
            answer: Answer = await function(*arguments, **self.values)
            return answer
        except Exception as error:
            raise _failure(self.method.name, error) from error


def prepare(host: Host, name: str, params: Mapping[str, object]) -> Call:
    """Raises CallFailed: no such method, or wrong parameters."""
    method = METHODS.get(name)
    if method is None:
        raise CallFailed(
            control.METHOD_NOT_FOUND,
            f"there is no method {name!r:.100}",
            kind="usage",
            hint="rpc.discover lists the methods.",
        )
    try:
        return Call(method, method.read(params), host)
    except InvalidParams as error:
        raise CallFailed(control.INVALID_PARAMS, str(error), kind="usage") from error


def _failure(name: str, error: Exception) -> CallFailed:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, P2PShareError):
        return CallFailed(control.APPLICATION_ERROR, error.message, kind=error.kind, hint=error.hint)
    logger.error("method %s failed", name, exc_info=error)
    return CallFailed(
        control.INTERNAL_ERROR,
        f"{name} failed by a defect in p2pshare ({type(error).__name__})",
        kind="internal",
        hint="The log has the details: p2pshare daemon log",
    )


async def _status(host: Host, _values: dict[str, Any]) -> Answer:
    if host.state != "ready":
        return host.about()
    node = await host.node()
    return {**host.about(), **await node.status()}


async def _stop(host: Host, _values: dict[str, Any]) -> Answer:
    host.stop()
    return {}


async def _discover(host: Host, _values: dict[str, Any]) -> Answer:
    return {
        "version": host.ping()["version"],
        "methods": [method.describe() for method in METHODS.values()],
        "errors": {
            kind: {"exit_code": about.exit_code, "retryable": about.retryable, "meaning": about.meaning}
            for kind, about in KINDS.items()
        },
    }


def _answered_by(read: Callable[[Host, dict[str, Any]], Answer]) -> HostMethod:
    async def answer(host: Host, values: dict[str, Any]) -> Answer:
        return read(host, values)

    return answer


_HOST_METHODS: dict[str, HostMethod] = {
    "ping": _answered_by(lambda host, _: host.ping()),
    "status": _status,
    "daemon.stop": _stop,
    "daemon.log": _answered_by(
        lambda host, values: {"lines": list(host.log_lines(values["lines"])), "path": host.log_path}
    ),
    "config.list": _answered_by(lambda host, _: host.config_list()),
    "rpc.discover": _discover,
}
