"""The share of our CPU that strangers' handshakes may take, and whose turn it is when they want more.

A handshake costs us about as much as the stranger who asks for it, who may have many machines. So every step of an
inbound handshake is timed and paid for: while the debt is larger than a short burst, the steps wait, and the networks
that want one take turns. Whoever is alone in its network waits for at most one step of each other network.
"""

from __future__ import annotations

import math
import time
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from p2pshare.net.guard import Group

T = TypeVar("T")

SHARE = 0.15  # of one core, for what is timed here; what else a new connection costs us comes on top: 0.3 in all
BURST = 0.02  # seconds of CPU that need no waiting: a ping in between waits no longer
PAUSE = 0.01  # seconds at least, once there is debt: many small steps at once, not each at its own wakeup


class HandshakeShare:
    """run() lets the waiting go on. `cpu`: seconds paid for so far; `waiting`: steps that wait now."""

    def __init__(self, share: float = SHARE, burst: float = BURST) -> None:
        self.cpu = 0.0
        self.waiting = 0
        self._share = share
        self._ahead = burst / share
        self._paid_until = -math.inf  # when the share will have paid for all that was spent
        self._queues: dict[Group | None, deque[trio.Event]] = {}  # in the order of their turns
        self._wanted = trio.Event()

    async def run(self) -> None:
        while True:
            if not self._queues:
                self._wanted = trio.Event()
                await self._wanted.wait()
            if trio.current_time() < (due := self._paid_until - self._ahead):
                await trio.sleep_until(due + PAUSE)
            if self._queues:
                self._next().set()
            await trio.lowlevel.checkpoint()  # it takes its step, and pays

    async def work(self, group: Group | None, handshake: Coroutine[Any, Any, T]) -> T:
        """Runs `handshake`, each step of it when it is the turn of `group`. When it is made, as much again is owed for
        the connection's tasks, identify and end: a flood of handshakes that are made and left costs us both.
        """
        spent = 0.0

        def pay(seconds: float) -> None:
            nonlocal spent
            spent += seconds
            self._pay(seconds)

        made = await _stepwise(handshake, lambda: self._turn(group), pay)
        self._owe(spent)
        return made

    async def _turn(self, group: Group | None) -> None:
        if not self._queues and trio.current_time() >= self._paid_until - self._ahead:
            return
        turn = trio.Event()
        queue = self._queues.setdefault(group, deque())
        queue.append(turn)
        self.waiting += 1
        self._wanted.set()
        try:
            await turn.wait()
        finally:
            self.waiting -= 1
            if not turn.is_set():
                queue.remove(turn)
                if not queue:
                    del self._queues[group]

    def _next(self) -> trio.Event:
        group = next(iter(self._queues))
        queue = self._queues.pop(group)
        turn = queue.popleft()
        if queue:
            self._queues[group] = queue  # behind all others
        return turn

    def _pay(self, seconds: float) -> None:
        self.cpu += seconds
        self._owe(seconds)

    def _owe(self, seconds: float) -> None:
        self._paid_until = max(self._paid_until, trio.current_time()) + seconds / self._share


@types.coroutine
def _stepwise(
    work: Coroutine[Any, Any, T], turn: Callable[[], Awaitable[None]], pay: Callable[[float], None]
) -> Generator[Any, Any, T]:
    """Awaits `work`. Before it goes on with what it waited for, `turn` is awaited in its place; then its step is timed.

    Until it has waited for the first time there is nothing of the stranger's to work on: that step is free, and so are
    those that tidy up, since who comes next must not wait for what dropping others costs. Cancelled while it waits for
    its turn, `work` is cancelled where it waits.
    """
    wait = _step(work.send, None)
    while isinstance(wait, _Wait):
        resume: Callable[[Any], Any] = work.send
        tidies = False
        try:
            value = yield wait.trap
            tidies = hasattr(value, "error")  # an outcome, as trio hands over: a cancellation
            if not tidies:
                yield from turn().__await__()
        except BaseException as error:  # noqa: BLE001 - it is raised inside `work`
            resume, value, tidies = work.throw, error, True
        begun = time.thread_time()
        try:
            wait = _step(resume, value)
        finally:
            if not tidies:
                pay(time.thread_time() - begun)
    result: T = wait.value
    return result


@dataclass(frozen=True, slots=True)
class _Wait:
    trap: Any


@dataclass(frozen=True, slots=True)
class _Done:
    value: Any


def _step(resume: Callable[[Any], Any], value: Any) -> _Wait | _Done:
    try:
        return _Wait(resume(value))
    except StopIteration as end:
        return _Done(end.value)
