"""How fast one stream moves, memory to memory, over loopback TCP between two processes, in writes of 1 MiB.

    python -m bench session [--runs N] [--size MIB]

MB/s of stock libp2p (noise, yamux), of our `/noise` and AES-GCM suites, and of ours with stock in both directions, each
over stock to stock; CPU seconds a GB of both sides together; 100 streams at once over one stream; the median and worst
round trip of a ping beside each of our transfers, in ms. All take turns; a ratio is the median of the runs' ratios.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.support import HERE, MIB, options, report
from p2pshare.net import open_network
from p2pshare.net.api import Stream
from p2pshare.net.muxer import Muxer
from p2pshare.net.muxer_stream import MuxStream
from p2pshare.net.session import secure_inbound, secure_outbound
from p2pshare_protocols.noise_cipher import NOISE, NOISE_AESGCM
from p2pshare_protocols.peerid import peer_id_from_ed25519

SUITE = {"chacha": NOISE, "aesgcm": NOISE_AESGCM, "hundred": NOISE_AESGCM}
# way -> (sender, receiver, MiB to move)
WAYS = {
    "stock": ("stock", "stock", 64),
    "chacha": ("chacha", "chacha", 512),
    "aesgcm": ("aesgcm", "aesgcm", 512),
    "hundred": ("hundred", "hundred", 500),
    "to_stock": ("node", "stock", 64),
    "from_stock": ("stock", "node", 64),
}
PROTOCOL = "/bench/1.0.0"
STREAMS = 100
LISTEN = "/ip4/127.0.0.1/tcp/0"


class Identity:
    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()
        self.peer_id = peer_id_from_ed25519(self.public)


class Meter:
    """MB/s and CPU seconds from the first byte to the last."""

    def __init__(self) -> None:
        self._begun, self._cpu = time.perf_counter(), time.process_time()

    def tell(self, count: int = 0, **more: float) -> None:
        cpu, took = time.process_time() - self._cpu, time.perf_counter() - self._begun
        print(json.dumps({"rate": count / took / 1e6, "cpu": cpu, **more}), flush=True)


# Our session and muxer alone


async def send_ours(kind: str, port: str, total: int) -> None:
    transport = await trio.open_tcp_stream("127.0.0.1", int(port))
    session = await secure_outbound(transport, SUITE[kind], Identity(), expected_peer=None)
    muxer = Muxer(session, initiator=True)
    pings: list[float] = []
    count = STREAMS if kind == "hundred" else 1
    data = os.urandom(MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.run)

        async def ping() -> None:
            with suppress(trio.BrokenResourceError):  # the other side closes when it has all
                while True:
                    pings.append(await muxer.ping())
                    await trio.sleep(0.01)

        async def one(out: MuxStream) -> None:
            for _ in range(total // MIB // count):
                await out.send_all(data)
            await out.send_eof()
            await out.receive_some()

        outs = [await muxer.open_stream() for _ in range(count)]
        nursery.start_soon(ping)
        meter = Meter()
        async with trio.open_nursery() as sending:
            for out in outs:
                sending.start_soon(one, out)
        nursery.cancel_scope.cancel()
    meter.tell(median=statistics.median(pings) * 1e3, worst=max(pings) * 1e3)


async def receive_ours(kind: str, total: int) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listener.socket.getsockname()[1], flush=True)
    session = await secure_inbound(await listener.accept(), SUITE[kind], Identity())
    muxer = Muxer(session, initiator=False)
    got = 0

    async def one(stream: MuxStream) -> None:
        nonlocal got
        view = memoryview(bytearray(MIB if kind != "hundred" else MIB // 4))
        while count := await stream.receive_into(view):
            got += count

    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.run)
        streams = [await muxer.accept_stream() for _ in range(STREAMS if kind == "hundred" else 1)]
        meter = Meter()
        async with trio.open_nursery() as receiving:
            for stream in streams:
                receiving.start_soon(one, stream)
        assert got == total, got
        meter.tell(got)
        for stream in streams:
            await stream.aclose()
        await muxer.aclose()


# Our whole node, and stock libp2p


async def send_node(address: str, total: int) -> None:
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(open_network(Identity(), listen=[LISTEN], allow_private_addresses=True))
        peer_id = await net.connect(address)
        stream = await stack.enter_async_context(await net.open_stream(peer_id, [PROTOCOL]))
        data = os.urandom(MIB)
        meter = Meter()
        for _ in range(total // MIB):
            await stream.send_all(data)
        await stream.receive_some(1)
        meter.tell()
        os._exit(0)


async def receive_node(total: int) -> None:
    async def take(stream: Stream) -> None:
        view, got = memoryview(bytearray(MIB)), 0
        meter = Meter()
        while got < total and (count := await stream.receive_into(view)):
            got += count
        meter.tell(got)
        await stream.send_all(b"x")
        await stream.receive_some(1)

    async with open_network(Identity(), listen=[LISTEN], allow_private_addresses=True) as net:
        net.handle(PROTOCOL, take)
        print(net.addresses()[0], flush=True)
        await trio.sleep_forever()


async def send_stock(address: str, total: int) -> None:
    from libp2p import new_host
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    host = new_host(muxer_preference="YAMUX")
    async with host.run([Multiaddr(LISTEN)]):
        info = info_from_p2p_addr(Multiaddr(address))
        await host.connect(info)
        stream = await host.new_stream(info.peer_id, [PROTOCOL])  # type: ignore[list-item]
        data = os.urandom(MIB)
        meter = Meter()
        for _ in range(total // MIB):
            await stream.write(data)
        await stream.read(1)
        meter.tell()
        os._exit(0)


async def receive_stock(total: int) -> None:
    from libp2p import new_host
    from multiaddr import Multiaddr

    host = new_host(muxer_preference="YAMUX")

    async def handler(stream: Any) -> None:
        meter = Meter()
        got = 0
        while got < total:
            got += len(await stream.read(min(MIB, total - got)))
        meter.tell(got)
        await stream.write(b"x")
        await trio.sleep_forever()

    host.set_stream_handler(PROTOCOL, handler)  # type: ignore[arg-type]
    async with host.run([Multiaddr(LISTEN)]):
        print(next(str(address) for address in host.get_addrs()), flush=True)
        await trio.sleep_forever()


# The figure


def run(way: str, size: int) -> dict[str, float]:
    """MB/s at the receiver, CPU seconds a GB of both, and what the sender measured of pings."""
    sender, receiver, most = WAYS[way]
    total = min(size, most) * MIB
    me = [sys.executable, "-m", "bench.session"]
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "cwd": HERE.parent}
    with subprocess.Popen([*me, "receive", receiver, str(total)], **quiet) as receiving:
        try:
            assert receiving.stdout is not None
            where = receiving.stdout.readline().strip()
            sent = subprocess.run([*me, "send", sender, str(total), where], check=True, timeout=120, **quiet)
            there, here = json.loads(receiving.stdout.readline()), json.loads(sent.stdout)
        finally:
            receiving.kill()
    cpu = (there["cpu"] + here["cpu"]) / total * 1e9
    return {"rate": there["rate"], "cpu": cpu, **{key: here[key] for key in ("median", "worst") if key in here}}


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments, runs=5)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(given.runs):
        for way in WAYS:
            runs[way].append(run(way, given.size))

    def middle(way: str, key: str, over: str = "") -> float:
        below = [found[key] for found in runs[over]] if over else [1.0] * given.runs
        return round(statistics.median(f[key] / b for f, b in zip(runs[way], below, strict=True)), 2)

    figures: dict[str, float] = {}
    for way in WAYS:
        figures[f"{way}_mb_s"] = middle(way, "rate")
        figures[f"{way}_cpu_s_gb"] = middle(way, "cpu")
        if way not in ("stock", "hundred"):
            figures[f"{way}_ratio"] = middle(way, "rate", "stock")
    figures["hundred_over_one"] = middle("hundred", "rate", "aesgcm")
    for way in SUITE:
        figures[f"{way}_ping_median_ms"] = middle(way, "median")
        figures[f"{way}_ping_worst_ms"] = middle(way, "worst")
    return report("session", runs=given.runs, **figures)


if __name__ == "__main__":
    logging.disable()
    senders: dict[str, Callable[[str, int], Awaitable[None]]] = {"node": send_node, "stock": send_stock}
    receivers: dict[str, Callable[[int], Awaitable[None]]] = {"node": receive_node, "stock": receive_stock}
    match sys.argv[1:]:
        case ["send", kind, total, where]:
            if kind in SUITE:
                trio.run(send_ours, kind, where, int(total))
            else:
                trio.run(senders[kind], where, int(total))
        case ["receive", kind, total]:
            if kind in SUITE:
                trio.run(receive_ours, kind, int(total))
            else:
                trio.run(receivers[kind], int(total))
        case _:
            sys.exit(main(sys.argv[1:]))
