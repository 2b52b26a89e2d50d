"""How fast one stream moves, memory to memory, over loopback TCP between two processes, in writes of 1 MiB.

    python bench/session.py [MIB]

Prints one line of JSON: MB/s of stock libp2p (noise, yamux), of our `/noise`, of our AES-GCM suite, and the ratios;
and the median and worst round trip of a ping beside each of our transfers, in ms. The three take turns, and the
best of the rounds counts for each, so that other load on the machine hurts them alike.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import time

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.net.muxer import Muxer
from p2pshare.net.session import secure_inbound, secure_outbound
from p2pshare_protocols.noise_cipher import NOISE, NOISE_AESGCM

MIB = 1 << 20
ROUNDS = 3
WAYS = {"stock": 128, "chacha": 512, "aesgcm": 512}  # MiB to move
SUITE = {"chacha": NOISE, "aesgcm": NOISE_AESGCM}
STOCK_PROTOCOL = "/bench/1.0.0"


class Identity:
    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()


async def send_ours(way: str, port: int, total: int) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    session = await secure_outbound(stream, SUITE[way], Identity(), expected_peer=None)
    muxer = Muxer(session, initiator=True)
    pings: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.run)
        out = await muxer.open_stream()
        data = os.urandom(MIB)

        async def ping() -> None:
            while True:
                pings.append(await muxer.ping())
                await trio.sleep(0.01)

        nursery.start_soon(ping)
        for _ in range(total // MIB):
            await out.send_all(data)
        await out.send_eof()
        await out.receive_some()
        nursery.cancel_scope.cancel()
    print(json.dumps({"median": statistics.median(pings) * 1e3, "worst": max(pings) * 1e3}), flush=True)


async def receive_ours(way: str, total: int) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listener.socket.getsockname()[1], flush=True)
    session = await secure_inbound(await listener.accept(), SUITE[way], Identity())
    muxer = Muxer(session, initiator=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.run)
        stream = await muxer.accept_stream()
        view = memoryview(bytearray(MIB))
        got = await stream.receive_into(view)
        begun = time.perf_counter()
        while count := await stream.receive_into(view):
            got += count
        took = time.perf_counter() - begun
        assert got == total, got
        print(json.dumps({"rate": got / took / 1e6}), flush=True)
        await stream.aclose()
        await muxer.aclose()


async def send_stock(address: str, total: int) -> None:
    from libp2p import new_host
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    host = new_host(muxer_preference="YAMUX")
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        info = info_from_p2p_addr(Multiaddr(address))
        await host.connect(info)
        stream = await host.new_stream(info.peer_id, [STOCK_PROTOCOL])
        data = os.urandom(MIB)
        for _ in range(total // MIB):
            await stream.write(data)
        await stream.read(1)
        print("{}", flush=True)
        os._exit(0)


async def receive_stock(total: int) -> None:
    from libp2p import new_host
    from multiaddr import Multiaddr

    host = new_host(muxer_preference="YAMUX")

    async def handler(stream: object) -> None:
        got = len(await stream.read(MIB))  # type: ignore[attr-defined]
        begun = time.perf_counter()
        while got < total:
            got += len(await stream.read(MIB))  # type: ignore[attr-defined]
        print(json.dumps({"rate": got / (time.perf_counter() - begun) / 1e6}), flush=True)
        await stream.write(b"x")  # type: ignore[attr-defined]

    host.set_stream_handler(STOCK_PROTOCOL, handler)
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        print(next(str(address) for address in host.get_addrs()), flush=True)
        await trio.sleep_forever()


def run(way: str, total: int) -> tuple[float, dict[str, float]]:
    """MB/s at the receiver, and what the sender measured."""
    me = [sys.executable, __file__]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([*me, "receive", way, str(total)], **quiet) as receiver:
        assert receiver.stdout is not None
        where = receiver.stdout.readline().strip()
        sent = subprocess.run(
            [*me, "send", way, str(total), where], capture_output=True, text=True, check=True, timeout=120
        )
        rate = json.loads(receiver.stdout.readline())["rate"]
        receiver.kill()
    return rate, json.loads(sent.stdout)


def main() -> None:
    sizes = {way: (int(sys.argv[1]) if len(sys.argv) > 1 else size) * MIB for way, size in WAYS.items()}
    runs = {way: [] for way in WAYS}  # type: dict[str, list[tuple[float, dict[str, float]]]]
    for _ in range(ROUNDS):
        for way, size in sizes.items():
            runs[way].append(run(way, size))
    rates = {way: max(rate for rate, _ in results) for way, results in runs.items()}
    result: dict[str, float] = {f"{way}_mb_s": round(rate) for way, rate in rates.items()}
    for way in SUITE:
        result[f"{way}_ratio"] = round(rates[way] / rates["stock"], 2)
        result[f"{way}_ping_median_ms"] = round(min(sent["median"] for _, sent in runs[way]), 2)
        result[f"{way}_ping_worst_ms"] = round(min(sent["worst"] for _, sent in runs[way]), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", "stock", total, where]:
            logging.disable()
            trio.run(send_stock, where, int(total))
        case ["receive", "stock", total]:
            logging.disable()
            trio.run(receive_stock, int(total))
        case ["send", way, total, where]:
            trio.run(send_ours, way, int(where), int(total))
        case ["receive", way, total]:
            trio.run(receive_ours, way, int(total))
        case _:
            main()
