"""From a dial to the first byte of an answer, on loopback, between two processes; and what a connection costs.

    python -m bench dial [--runs N]

`ours_ms` met for the first time, `known_ms` known from before, `stock_ms` stock libp2p to stock libp2p; medians over
the runs of three dials. `idle_kib` and `stream_kib`: memory of the listening process for each of 200 connections
with nothing open, and with one stream open that has moved 1 KiB.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import trio

from bench.paths import Identity
from bench.support import HERE, options, report
from p2pshare.net import open_network
from p2pshare.net.api import Stream
from p2pshare.net.parts import Limits

PROTOCOL = "/p2pshare/bench/1.0.0"
STOCK_PROTOCOL = "/bench/1.0.0"
DIALS = 3
CONNECTIONS = 200
LISTEN = "/ip4/127.0.0.1/tcp/0"


async def serve() -> None:
    async def echo(stream: Stream) -> None:
        while data := await stream.receive_some(65536):
            await stream.send_all(data)

    limits = Limits(connections=2 * CONNECTIONS)
    async with open_network(Identity(2), listen=[LISTEN], allow_private_addresses=True, limits=limits) as net:
        net.handle(PROTOCOL, echo)
        print(net.addresses()[0], flush=True)
        await trio.sleep_forever()


async def dial(address: str) -> None:
    plain, _, peer = address.rpartition("/p2p/")
    first, known = [], []
    for number in range(DIALS):
        async with open_network(Identity(100 + number), listen=[LISTEN], allow_private_addresses=True) as net:
            net.add_addresses(peer, [plain])
            for found in (first, known):
                begun = time.perf_counter()
                async with await net.open_stream(peer, [PROTOCOL]) as stream:
                    await stream.send_all(b"?")
                    await stream.receive_exactly(1)
                found.append((time.perf_counter() - begun) * 1e3)
                await net.disconnect(peer)
    print(json.dumps({"first": first, "known": known}), flush=True)


async def hold(address: str) -> None:
    """Connections of as many nodes; says so when they are there, and again when each has a stream."""
    peer = address.rpartition("/p2p/")[2]
    async with AsyncExitStack() as stack:
        nets = []
        for number in range(CONNECTIONS):
            net = await stack.enter_async_context(
                open_network(Identity(1000 + number), listen=[LISTEN], allow_private_addresses=True)
            )
            await net.connect(address)
            nets.append(net)
        await trio.sleep(2)  # identify is done
        print("connected", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        for net in nets:
            stream = await stack.enter_async_context(await net.open_stream(peer, [PROTOCOL]))
            await stream.send_all(bytes(1024))
            await stream.receive_exactly(1024)
        print("streaming", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        os._exit(0)


async def serve_stock() -> None:
    from libp2p import new_host
    from multiaddr import Multiaddr

    host = new_host(muxer_preference="YAMUX")

    async def echo(stream: Any) -> None:
        await stream.write(await stream.read(1))

    host.set_stream_handler(STOCK_PROTOCOL, echo)  # type: ignore[arg-type]
    async with host.run([Multiaddr(LISTEN)]):
        print(host.get_addrs()[0], flush=True)
        await trio.sleep_forever()


async def dial_stock(address: str) -> None:
    from libp2p import new_host
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    found = []
    for _ in range(DIALS):
        host = new_host(muxer_preference="YAMUX")
        async with host.run([Multiaddr(LISTEN)]):
            begun = time.perf_counter()
            peer = info_from_p2p_addr(Multiaddr(address))
            await host.connect(peer)
            stream = await host.new_stream(peer.peer_id, [STOCK_PROTOCOL])  # type: ignore[list-item]
            await stream.write(b"?")
            await stream.read(1)
            found.append((time.perf_counter() - begun) * 1e3)
    print(json.dumps({"stock": found}), flush=True)
    os._exit(0)


def _resident(pid: int) -> int:
    """KiB of physical memory that only this process has."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


@contextmanager
def _process(*words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.dial", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, cwd=HERE.parent,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"a process of the figure ended with {process.wait()}")
    return line


def _memory() -> tuple[float, float]:
    with _process("serve") as server:
        address = _line(server)
        with _process("dial", address) as warm:  # what is imported and cached at first use
            _line(warm)
        before = _resident(server.pid)
        with _process("hold", address) as holder:
            assert holder.stdin is not None
            _line(holder)
            idle = _resident(server.pid)
            holder.stdin.write("\n")
            holder.stdin.flush()
            _line(holder)
            streaming = _resident(server.pid)
    return (idle - before) / CONNECTIONS, (streaming - before) / CONNECTIONS


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments)
    found: dict[str, list[float]] = {"first": [], "known": [], "stock": []}
    with _process("serve") as server, _process("serve-stock") as stock:
        ours, theirs = _line(server), _line(stock)
        for _ in range(given.runs):
            for words in (["dial", ours], ["dial-stock", theirs]):
                with _process(*words) as process:
                    for kind, values in json.loads(_line(process)).items():
                        found[kind] += values
    medians = {kind: statistics.median(values) for kind, values in found.items()}
    idle, streaming = _memory()
    return report(
        "dial",
        ours_ms=round(medians["first"], 1),
        known_ms=round(medians["known"], 1),
        stock_ms=round(medians["stock"], 1),
        ratio=round(medians["stock"] / medians["first"], 1),
        idle_kib=round(idle),
        stream_kib=round(streaming),
        runs=given.runs,
    )


if __name__ == "__main__":
    logging.disable()
    match sys.argv[1:]:
        case ["serve"]:
            trio.run(serve)
        case ["dial", address]:
            trio.run(dial, address)
        case ["hold", address]:
            trio.run(hold, address)
        case ["serve-stock"]:
            trio.run(serve_stock)
        case ["dial-stock", address]:
            trio.run(dial_stock, address)
        case _:
            sys.exit(main(sys.argv[1:]))
