"""A victim and its attackers, each a process; and an honest peer that asks meanwhile. For tests and bench."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from p2pshare.errors import RemoteError
from p2pshare.net import ping
from tests.support_net import network

ROOT = Path(__file__).parents[1]
WAIT = 60  # seconds for a process to say what it should


class Speaker:
    """A process that says JSON lines."""

    def __init__(self, module: str, *arguments: str, **options: Any) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options
        )

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"{self.process.args} ended with {self.process.wait(WAIT)}")
        return dict(json.loads(line))

    async def hears(self, patience: float = WAIT) -> dict[str, Any]:
        """As `hear`, while other tasks go on."""
        with trio.fail_after(patience):
            return await trio.to_thread.run_sync(self.hear, abandon_on_cancel=True)

    def end(self) -> int:
        """Ends its input and waits for it."""
        assert self.process.stdin is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            return self.process.wait(WAIT)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


class Victim(Speaker):
    def __init__(self, **options: Any) -> None:
        super().__init__("tests.network.victim", json.dumps(options), stderr=subprocess.DEVNULL)
        self.address = str(self.hear()["address"])

    def ask(self) -> dict[str, Any]:
        """Its figures, see tests/network/victim.py."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.hear()

    async def asks(self) -> dict[str, Any]:
        with trio.fail_after(WAIT):
            return await trio.to_thread.run_sync(self.ask, abandon_on_cancel=True)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT)


@contextmanager
def victim(**options: Any) -> Iterator[Victim]:
    """A network in a process; it must still live at the end, and end with 0."""
    target = Victim(**options)
    code: int | None = None
    try:
        yield target
        code = target.process.poll()
        assert code in (None, 0), f"the victim ended with {code}"
    finally:
        ended = target.end()
    assert ended == 0


@contextmanager
def attack(name: str, target: str | Victim, **options: Any) -> Iterator[Speaker]:
    """An attack under way; `hear` says when it stands ("ready") and what came of it ("done")."""
    address = target if isinstance(target, str) else target.address
    attacker = Speaker("tests.network.attack", name, address, json.dumps(options))
    try:
        yield attacker
    finally:
        attacker.end()


async def whole(name: str, target: str | Victim, *, patience: float = WAIT, **options: Any) -> dict[str, Any]:
    """An attack to its end, which may take `patience` seconds; what came of it."""
    with attack(name, target, **options) as attacker:
        while "done" not in (told := await attacker.hears(patience)):
            pass
    return dict(told["done"])


async def dial_once(address: str, number: int, *, patience: float = 10.0) -> float | None:
    """Seconds from nothing to an answered ping of an honest newcomer; None when it does not come to that."""
    async with network(number, listen=[]) as honest:
        begun = trio.current_time()
        try:
            peer = await honest.connect(address, timeout=patience)
            async with await honest.open_stream(peer, [ping.PROTOCOL], timeout=patience) as stream:
                with trio.fail_after(patience):
                    await ping.measure(stream)
        except (RemoteError, trio.BrokenResourceError, trio.TooSlowError):
            return None
        return trio.current_time() - begun


class Times(list[float]):
    """Round trips, to which one may wait to come."""

    def __init__(self) -> None:
        super().__init__()
        self._more = trio.Event()

    def add(self, seconds: float) -> None:
        self.append(seconds)
        self._more.set()
        self._more = trio.Event()

    async def reach(self, count: int) -> None:
        while len(self) < count:
            await self._more.wait()


async def ping_all_along(address: str, number: int, times: Times, *, every: float = 0.01) -> None:
    """Pings on one connection for ever, each round trip into `times`; raises when one is not answered in 10 s."""
    async with network(number, listen=[]) as honest:
        peer = await honest.connect(address)
        async with await honest.open_stream(peer, [ping.PROTOCOL]) as stream:
            while True:
                with trio.fail_after(10):
                    times.add(await ping.measure(stream))
                await trio.sleep(every)


def p99(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]
