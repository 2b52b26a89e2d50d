"""python -m tests.network.victim OPTIONS: a network in a process of its own, to be attacked.

OPTIONS is JSON: "private" (allow_private_addresses, default false), "limits" (of Limits), "trace" (measure memory
exactly), "descriptors" (the most it may have). It prints {"address": …}; each line on stdin is answered with its
`figures`. SIGTERM, or the end of stdin, closes it properly.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import trio

from p2pshare.net import Limits
from p2pshare.net.api import Network, Stream
from tests.support_net import network

RAISES, FLOODS, HOLDS = "/test/raise/1", "/test/flood/1", "/test/hold/1"
_ERRORS = (
    ValueError("a defect"),
    KeyError("x"),
    OSError(5, "io"),
    ExceptionGroup("two", [ValueError("in a group")]),
)
_raised = 0


async def fail(stream: Stream) -> None:
    global _raised  # noqa: PLW0603 - the process is nothing but this
    _raised += 1
    raise _ERRORS[_raised % len(_ERRORS)]


async def flood(stream: Stream) -> None:
    while True:
        await stream.send_all(bytes(1 << 16))


async def hold(stream: Stream) -> None:
    while await stream.receive_some(4096):
        pass


def figures(net: Network) -> dict[str, Any]:
    gc.collect()
    rss = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return {
        "status": net.status(),
        "rss": int(rss.split()[1]) * 1024,
        "cpu": time.process_time(),
        "traced": tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0,
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "raised": _raised,
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


async def answer(net: Network, scope: trio.CancelScope) -> None:
    pending = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as asked:
        while data := await asked.receive_some(4096):
            pending += data
            while b"\n" in pending:
                _, _, pending = pending.partition(b"\n")
                print(json.dumps(figures(net)), flush=True)
    scope.cancel()


async def main(options: dict[str, Any]) -> None:
    limits = Limits(**options.get("limits", {}))
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with (
            network(1, limits=limits, allow_private_addresses=options.get("private", False)) as net,
            trio.open_nursery() as nursery,
        ):
            net.handle(RAISES, fail)
            net.handle(FLOODS, flood)
            net.handle(HOLDS, hold)
            nursery.start_soon(answer, net, nursery.cancel_scope)
            address = net.addresses()[0]
            print(json.dumps({"address": address}), flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    if "descriptors" in chosen:
        resource.setrlimit(resource.RLIMIT_NOFILE, (chosen["descriptors"], chosen["descriptors"]))
    if chosen.get("trace"):
        tracemalloc.start(1)
    trio.run(main, chosen)
