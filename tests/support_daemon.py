"""Real daemon processes around a stub node, for the daemon's own tests.

Run as `python -m tests.support_daemon KIND HOME [--set …]`: KIND says what sort of node is built.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgpack
import trio

from p2pshare.daemon import deadline
from p2pshare.daemon.process import run
from p2pshare.errors import Exists
from p2pshare_protocols.places import places_under

ROOT = Path(__file__).parents[1]


class StubNode:
    def __init__(self, identity):
        self._identity = identity
        self.streams = 0

    async def id(self):
        return {"peer_id": self._identity.peer_id, "addresses": ["/ip4/127.0.0.1/tcp/1"]}

    async def status(self):
        return {"peers": 0}

    async def events(self, emit, *, topics, since):
        self.streams += 1
        try:
            await emit({"seq": 1})
            await trio.sleep_forever()
        finally:
            self.streams -= 1

    async def jobs_list(self, *, states):
        return {"jobs": []}


@asynccontextmanager
async def good(config, identity, places, wall_clock):
    assert abs(wall_clock() - time.time()) < 60
    node = StubNode(identity)
    yield node
    assert node.streams == 0, "the node was closed while a stream still used it"


@asynccontextmanager
async def port_in_use(config, identity, places, wall_clock):
    async with trio.open_nursery():
        raise Exists("port 4001 is in use")
    yield


@asynccontextmanager
async def defective(config, identity, places, wall_clock):
    raise RuntimeError("a defect at the start")
    yield


@asynccontextmanager
async def hangs_at_the_end(config, identity, places, wall_clock):
    yield StubNode(identity)
    await waits_for_a_peer_that_never_answers()


async def waits_for_a_peer_that_never_answers():
    await trio.sleep_forever()


@asynccontextmanager
async def blocks_at_the_end(config, identity, places, wall_clock):
    yield StubNode(identity)
    time.sleep(60)


def never_imported():
    open(os.environ["IMPORTING"], "w").close()
    time.sleep(60)


def main(kind, home, *overrides):
    deadline.CLOSE_TIME, deadline.HARD_STOP = 0.2, 1.0
    load = never_imported if kind == "never" else lambda: globals()[kind]
    return run(places_under(home), overrides, foreground=kind != "detached", load=load)


def detached(config, identity, places, wall_clock):
    return good(config, identity, places, wall_clock)


def start(home, kind="good", *overrides, **environ):
    """A daemon process; its first line on standard output is the ready line."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support_daemon", kind, str(home), *overrides],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(home, kind="good", *overrides, **environ):
    """A daemon that is ready; ended by force when the test did not."""
    process = start(home, kind, *overrides, **environ)
    try:
        process.ready = process.stdout.readline() if kind != "never" else ""
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process):
    """Exit code, standard output, standard error."""
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def call(home, method, **params):
    """One call over msgpack, blocking."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(f"{home}/control.sock")
        client.sendall(msgpack.packb({"id": 1, "method": method, "params": params}))
        unpacker = msgpack.Unpacker(raw=False)
        while True:
            data = client.recv(1 << 16)
            if not data:
                raise ConnectionError("closed without an answer")
            unpacker.feed(data)
            for message in unpacker:
                return message


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
