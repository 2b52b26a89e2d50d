"""Foreign nodes for the tests of interoperability, and the protocols that both sides speak there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pshare.net.api import Network, Stream
from tests.interop.install import COMMAND, CannotInstall, Installed, install, installed

ECHO = "/p2pshare-test/echo/1.0.0"
DIGEST = "/p2pshare-test/digest/1.0.0"
RESET = "/p2pshare-test/reset/1.0.0"
HOLD = "/p2pshare-test/hold/1.0.0"
MIB = 1 << 20
_SCRIPT = Path(__file__).parent / "interop" / "js" / "node.mjs"


def javascript() -> Installed:
    """js-libp2p. In CI it is installed, and what fails fails the tests; elsewhere a test without it is skipped."""
    if os.environ.get("CI") == "true":
        try:
            return install()
        except CannotInstall as error:
            pytest.fail(f"js-libp2p cannot be installed: {error}")
    there = installed()
    if there is None:
        pytest.skip(f"js-libp2p is not installed; install it by: {COMMAND}")
    return there


class JsNode:
    """A js-libp2p node in a process of its own, asked by lines of JSON. `peer_id` and `addresses` are its own."""

    peer_id: str
    addresses: list[str]

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._ids = count()
        self._waiting: dict[int, trio.Event] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._ended = False

    async def ask(self, verb: str, **arguments: object) -> Any:
        """What the verb of node.mjs answers. Fails the test when it fails, or the process ended."""
        id = next(self._ids)
        arrived = self._waiting[id] = trio.Event()
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"id": id, "do": verb, **arguments}).encode() + b"\n")
        if not self._ended:
            await arrived.wait()
        answer = self._answers.pop(id, None)
        assert answer is not None, "the js node ended"
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    async def read(self) -> None:
        """Hands out answers until the process ends."""
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                self._answers[answer["id"]] = answer
                self._waiting.pop(answer["id"]).set()
        self._ended = True
        for waiting in self._waiting.values():
            waiting.set()


@asynccontextmanager
async def js_node(
    there: Installed, security: str, dht_protocol: str = "", *, inside: Sequence[str] = (), **has: object
) -> AsyncIterator[JsNode]:
    """A node that speaks TCP, yamux and one security ("noise" or "tls"), listening on loopback.

    `inside` is put before its command, and `has` is told at the top of node.mjs.
    """
    script = there.packages / f"node-{hashlib.sha256(_SCRIPT.read_bytes()).hexdigest()[:16]}.mjs"
    if not script.is_file():  # beside its packages, where Node looks for them
        aside = script.with_suffix(f".{os.getpid()}")
        shutil.copy(_SCRIPT, aside)
        aside.replace(script)
    if dht_protocol:
        has["dht"] = dht_protocol
    command = [*inside, str(there.node), str(script), security, json.dumps(has)]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        node = JsNode(process)
        nursery.start_soon(node.read)
        try:
            with trio.fail_after(30):
                about = await node.ask("self")
            node.peer_id, node.addresses = about["peer"], about["addresses"]
            yield node
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        await trio.aclose_forcefully(pipe)
            nursery.cancel_scope.cancel()


class OurSide:
    """Serves the test protocols on our network, and notes how held streams end."""

    def __init__(self, network: Network) -> None:
        self.ends: list[str] = []
        self.ended = trio.Event()
        for protocol, handler in {ECHO: _echo, DIGEST: _digest, RESET: _reset, HOLD: self._hold}.items():
            network.handle(protocol, handler)

    async def _hold(self, stream: Stream) -> None:
        await stream.send_all(b"\0")
        try:
            self.ends.append("end" if not await stream.receive_some(1) else "data")
        except trio.BrokenResourceError:
            self.ends.append("reset")
        self.ended.set()


async def _echo(stream: Stream) -> None:
    buffer = memoryview(bytearray(MIB))
    while size := await stream.receive_into(buffer):
        await stream.send_all(buffer[:size])


async def _digest(stream: Stream) -> None:
    size, digest = await read_digest(stream)
    await stream.send_all(json.dumps({"size": size, "sha256": digest}).encode())


async def _reset(stream: Stream) -> None:
    await stream.receive_exactly(1)
    await stream.reset()


async def read_digest(stream: Stream) -> tuple[int, str]:
    """Size and SHA-256 of everything up to the peer's proper end."""
    size, digest = 0, hashlib.sha256()
    while data := await stream.receive_some(MIB):
        size += len(data)
        digest.update(data)
    return size, digest.hexdigest()


async def echoed(network: Network, peer_id: str, size: int) -> tuple[str, int, str, float]:
    """Sends `size` bytes to the peer's echo: (hash sent, size received, hash received, seconds)."""
    pattern = os.urandom(MIB)
    sent = hashlib.sha256()
    begun = trio.current_time()
    async with await network.open_stream(peer_id, [ECHO]) as stream, trio.open_nursery() as nursery:

        async def push() -> None:
            for left in range(size, 0, -MIB):
                part = pattern[: min(left, MIB)]
                sent.update(part)
                await stream.send_all(part)
            await stream.send_eof()

        nursery.start_soon(push)
        got, digest = await read_digest(stream)
    return sent.hexdigest(), got, digest, trio.current_time() - begun


async def asked_digest(network: Network, peer_id: str, text: bytes) -> dict[str, object]:
    """Closes our half after `text`; what the peer says only then."""
    async with await network.open_stream(peer_id, [DIGEST]) as stream:
        await stream.send_all(text)
        await stream.send_eof()
        said = b""
        while data := await stream.receive_some():
            said += data
    answer: dict[str, object] = json.loads(said)
    return answer


async def was_reset(network: Network, peer_id: str) -> bool:
    """Does a reset by the peer arrive as one?"""
    stream = await network.open_stream(peer_id, [RESET])
    try:
        with suppress(trio.ClosedResourceError):
            await stream.send_all(b"\0")
            await stream.receive_some(1)
    except trio.BrokenResourceError:
        return True
    finally:
        await stream.reset()
    return False


async def held_and_reset(network: Network, peer_id: str) -> None:
    """Opens a held stream and resets it once the peer has it."""
    stream = await network.open_stream(peer_id, [HOLD])
    await stream.receive_exactly(1)
    await stream.reset()
