"""A host and a node that do as they are told, and clients of each framing, for the control socket's tests."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager

import msgpack
import trio

from p2pshare.control.server import open_server
from p2pshare.errors import NotFound
from p2pshare_protocols.control import Framing, encode


class FakeNode:
    """Answers with what it was asked; `gates` hold a call until the test opens them."""

    def __init__(self):
        self.calls = []
        self.cancelled = []
        self.started = trio.Event()
        self.gate = trio.Event()

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)

        async def method(*emit, **params):
            self.calls.append((name, params))
            return {"called": name, **params}

        return method

    async def status(self):
        return {"peer_id": "12D3KooWFake", "peers": 0}

    async def jobs_show(self, *, job):
        raise NotFound(f"there is no job {job}", hint="jobs.list")

    async def jobs_clear(self):
        raise RuntimeError("a defect")

    async def jobs_pause(self, *, job):
        raise ExceptionGroup("wrapped by a nursery", [NotFound("no such job")])

    async def show(self, *, link, timeout):
        self.started.set()
        try:
            await self.gate.wait()
        except trio.Cancelled:
            self.cancelled.append("show")
            raise
        return {"cid": link}

    async def shares_list(self):
        return {"shares": [{"name": "x" * 1000}] * 20_000}

    async def jobs_watch(self, emit, *, job, since):
        for number in range(3):
            await emit({"event": "progress", "job": job, "bytes": number})
        if job == 13:
            raise NotFound("the job's own error")
        return {"event": "done", "job": job}

    async def events(self, emit, *, topics, since):
        number = since or 0
        try:
            while True:
                number += 1
                await emit({"seq": number, "topic": "node", "body": "x" * (1 << 16)})
                if topics == ["jobs"]:
                    self.started.set()
                    await self.gate.wait()
        finally:
            self.cancelled.append("events")


class FakeHost:
    def __init__(self, node=None):
        self.fake = node or FakeNode()
        self.state = "ready"
        self.stopped = trio.Event()
        self.log_path = "/log"

    async def node(self):
        return self.fake

    def ping(self):
        return {"version": "1", "pid": os.getpid(), "state": self.state}

    def about(self):
        return {"version": "1", "state": self.state, "peer_id": None}

    def stop(self):
        self.stopped.set()

    def log_lines(self, lines):
        return ["a line"] * lines

    def config_list(self):
        return {}


class Client:
    """A raw client: bytes or messages out, messages in."""

    def __init__(self, stream, framing=Framing.JSON):
        self.stream = stream
        self.framing = framing
        self._received = b""
        self._unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 28)

    def __del__(self):
        self.stream.socket._sock.close()  # trio's own close wants a running trio

    async def send(self, *messages):
        await self.stream.send_all(b"".join(encode(self.framing, message) for message in messages))

    async def call(self, id, method, **params):
        await self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})

    async def receive(self):
        """The next message; None at the end."""
        while True:
            if self.framing is Framing.JSON and b"\n" in self._received:
                line, _, self._received = self._received.partition(b"\n")
                return json.loads(line)
            if self.framing is Framing.MSGPACK:
                for message in self._unpacker:
                    return message
            data = await self.stream.receive_some(1 << 16)
            if not data:
                return None
            self._received += data
            if self.framing is Framing.MSGPACK:
                self._unpacker.feed(data)
                self._received = b""

    async def receive_all(self):
        messages = []
        while (message := await self.receive()) is not None:
            messages.append(message)
        return messages


@asynccontextmanager
async def running_server(directory, host=None):
    path = str(directory / "control.sock")
    host = host or FakeHost()
    with trio.fail_after(30):
        async with open_server(path, host) as server:
            server.path = path
            server.host = host
            yield server


async def connect(server, framing=Framing.JSON):
    return Client(await trio.open_unix_socket(server.path), framing)
