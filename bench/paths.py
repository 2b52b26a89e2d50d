"""Over a long path of 20 MB/s: one stream against nginx and curl with TLS; round trips of a dial and of a request.

    python -m bench paths [--runs N] [--size MIB]

Two paths, each in namespaces of its own (see bench/emulator): 200 ms without loss, and 40 ms with 0.1 % loss. Each run
of ours is followed by one of curl on the same path. `dial` is from a known address to the first byte of an answer, in
round trips: ours known from before, ours met for the first time, another that speaks `/noise` with early muxer
negotiation (our node without its own suite), and stock libp2p (py), which does not know that. `warm` is a request of
16 KiB on a connection that has moved 1 MiB. Times of transfers include the dial. `*_late` is the share of packets that
the emulator delivered more than 1 ms late: over 0.01, the machine was too busy for the figure.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench import nginx
from bench.emulator import FAR_ADDRESS, NEAR_ADDRESS, LongPath, Shape, long_path, missing
from bench.support import MIB, median, options, report, write_file
from p2pshare.net import open_network, session, tcp
from p2pshare.net.api import Network, Stream
from p2pshare_protocols.peerid import peer_id_from_ed25519

PROTOCOL = "/p2pshare/bench/1.0.0"
STOCK_PROTOCOL = "/bench/1.0.0"
PORT, OTHER_PORT, STOCK_PORT, CUBIC_PORT, TLS_PORT = 4101, 4102, 4103, 4104, 4443
WARM = 16 * 1024
SHAPES = {"200ms": Shape(20e6, 0.2), "40ms_loss": Shape(20e6, 0.04, 0.001)}
CONNECTS = 3


class Identity:
    """A node's key; the same for the same number."""

    def __init__(self, number: int) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
        self.public = self.private.public_key().public_bytes_raw()
        self.peer_id = peer_id_from_ed25519(self.public)


# The far side


async def serve(number: int, port: int) -> None:
    """Answers eight bytes with as many bytes as they say. Node 3 speaks no suite that only our nodes speak; node 4 is
    paced by cubic."""
    if number == 3:
        session.has_aes_instructions = lambda cpuinfo=Path(): False  # type: ignore[assignment,misc]
    if number == 4:
        tcp.TO_OTHERS = "cubic"
    block = os.urandom(MIB)

    async def send(stream: Stream) -> None:
        left = int.from_bytes(await stream.receive_exactly(8), "big")
        while left:
            part = min(left, len(block))
            await stream.send_all(memoryview(block)[:part])
            left -= part

    listen = [f"/ip4/{FAR_ADDRESS}/tcp/{port}"]
    async with open_network(Identity(number), listen=listen, allow_private_addresses=True) as net:
        net.handle(PROTOCOL, send)
        print("up", flush=True)
        await trio.sleep_forever()


async def serve_stock() -> None:
    from libp2p import new_host
    from multiaddr import Multiaddr

    host = new_host(muxer_preference="YAMUX")

    async def send(stream: Any) -> None:
        await stream.read(8)
        await stream.write(b"x" * 8)
        await stream.close()

    host.set_stream_handler(STOCK_PROTOCOL, send)  # type: ignore[arg-type]
    async with host.run([Multiaddr(f"/ip4/{FAR_ADDRESS}/tcp/{STOCK_PORT}")]):
        print(host.get_id().to_string(), flush=True)
        await trio.sleep_forever()


# The near side


async def _first_byte(net: Network, peer_id: str, protocol: str, count: int) -> float:
    begun = time.perf_counter()
    async with await net.open_stream(peer_id, [protocol], timeout=30) as stream:
        await stream.send_all(count.to_bytes(8, "big"))
        await stream.receive_some(1)
        took = time.perf_counter() - begun
        while await stream.receive_some(MIB):
            pass
    return took


async def _transfer(net: Network, peer_id: str, count: int) -> float:
    begun = time.perf_counter()
    async with await net.open_stream(peer_id, [PROTOCOL], timeout=30) as stream:
        await stream.send_all(count.to_bytes(8, "big"))
        view, got = memoryview(bytearray(MIB)), 0
        while part := await stream.receive_into(view):
            got += part
        assert got == count, got
    return time.perf_counter() - begun


async def measure(size: int, stock: str) -> None:
    """Everything of ours on the path as it is, each from a new connection."""
    peer, other = Identity(2).peer_id, Identity(3).peer_id
    found: dict[str, Any] = {f"dial_{kind}": [] for kind in ("first", "known", "other", "stock")} | {"warm": []}
    for number in range(CONNECTS):
        async with open_network(
            Identity(100 + number), listen=[f"/ip4/{NEAR_ADDRESS}/tcp/0"], allow_private_addresses=True
        ) as net:
            for known, port in ((peer, PORT), (other, OTHER_PORT), (stock, STOCK_PORT)):
                net.add_addresses(known, [f"/ip4/{FAR_ADDRESS}/tcp/{port}"])
            found["dial_first"].append(await _first_byte(net, peer, PROTOCOL, 1))
            await net.disconnect(peer)
            found["dial_known"].append(await _first_byte(net, peer, PROTOCOL, 1))
            await _first_byte(net, peer, PROTOCOL, MIB)
            begun = time.perf_counter()
            async with await net.open_stream(peer, [PROTOCOL]) as stream:
                await stream.send_all(WARM.to_bytes(8, "big"))
                await stream.receive_exactly(WARM)
            found["warm"].append(time.perf_counter() - begun)
            await net.disconnect(peer)
            if number == 0:
                found["transfer"] = await _transfer(net, peer, size)
                found["congestion"] = net.status()["congestion"]
            found["dial_other"].append(await _first_byte(net, other, PROTOCOL, 1))
            found["dial_stock"].append(await _first_byte(net, stock, STOCK_PROTOCOL, 1))
    print(json.dumps(found), flush=True)


async def transfer(size: int, number: int, port: int) -> None:
    """One transfer from a node that is met for the first time."""
    peer = Identity(number).peer_id
    async with open_network(Identity(100), listen=[f"/ip4/{NEAR_ADDRESS}/tcp/0"], allow_private_addresses=True) as net:
        net.add_addresses(peer, [f"/ip4/{FAR_ADDRESS}/tcp/{port}"])
        print(await _transfer(net, peer, size), flush=True)


# The whole


@contextmanager
def _far(path: LongPath, *words: str) -> Iterator[str]:
    """A process on the far side; its first line."""
    with subprocess.Popen(
        [*path.far, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=_root()
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _root() -> str:
    return str(Path(__file__).parents[1])


@contextmanager
def _nginx(path: LongPath, directory: Path, size: int) -> Iterator[None]:
    write_file(directory / "data", "paths", size)
    command = [*path.far, *nginx.command(directory, directory, f"{FAR_ADDRESS}:{TLS_PORT}")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()


def _curl(path: LongPath) -> tuple[float, float]:
    """Seconds to the first byte, and to the last."""
    done = subprocess.run(
        [*path.near, "curl", "-sk", "--retry", "20", "--retry-connrefused", "-o", "/dev/null",
         "-w", "%{time_starttransfer} %{time_total}", f"https://{FAR_ADDRESS}:{TLS_PORT}/data"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    first, last = map(float, done.stdout.split())
    return first, last


def _one_shape(path: LongPath, name: str, size: int, runs: int, stock: str) -> dict[str, Any]:
    shape = SHAPES[name]
    path.shape(shape)
    ours: list[dict[str, Any]] = []
    curls: list[tuple[float, float]] = []
    for _ in range(runs):
        command = [*path.near, sys.executable, "-m", "bench.paths", "measure", str(size), stock]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_root())
        ours.append(json.loads(done.stdout))
        curls.append(_curl(path))

    def trips(key: str) -> float:
        return round(statistics.median(value for run in ours for value in run[key]) / shape.rtt, 2)

    counts = path.counts()
    late = sum(counts[side]["late"] for side in counts) / max(1, sum(counts[side]["delivered"] for side in counts))
    mine, theirs = median([run["transfer"] for run in ours]), median([last for _, last in curls])
    return {
        f"{name}_ours_mb_s": round(size / mine / 1e6, 2),
        f"{name}_curl_mb_s": round(size / theirs / 1e6, 2),
        f"{name}_ratio": median([last / run["transfer"] for run, (_, last) in zip(ours, curls, strict=True)]),
        f"{name}_dial_known_rtt": trips("dial_known"),
        f"{name}_dial_first_rtt": trips("dial_first"),
        f"{name}_dial_other_rtt": trips("dial_other"),
        f"{name}_dial_stock_rtt": trips("dial_stock"),
        f"{name}_dial_curl_rtt": round(statistics.median(first for first, _ in curls) / shape.rtt, 2),
        f"{name}_warm_rtt": trips("warm"),
        f"{name}_congestion": "+".join(ours[0]["congestion"]),
        f"{name}_late": round(late, 4),
    }


def _against_cubic(path: LongPath, size: int, runs: int) -> dict[str, Any]:
    """BBR over cubic, both ours, where packets are lost though nothing is full."""
    path.shape(SHAPES["40ms_loss"])
    took: dict[int, list[float]] = {2: [], 4: []}
    for _ in range(runs):
        for number, port in ((2, PORT), (4, CUBIC_PORT)):
            command = [*path.near, sys.executable, "-m", "bench.paths", "transfer", str(size), str(number), str(port)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_root())
            took[number].append(float(done.stdout))
    return {
        "40ms_loss_cubic_mb_s": round(size / statistics.median(took[4]) / 1e6, 2),
        "40ms_loss_bbr_over_cubic": median([c / b for b, c in zip(took[2], took[4], strict=True)]),
    }


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments, runs=5)
    size = min(given.size, 64) * MIB
    if lacking := missing():
        return report("paths", skipped=f"needs {lacking}")
    figures: dict[str, Any] = {}
    with long_path() as path, tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        me = [sys.executable, "-m", "bench.paths"]
        ours, other = ["serve", "2", str(PORT)], ["serve", "3", str(OTHER_PORT)]
        with (
            _nginx(path, Path(directory), size),
            _far(path, *me, *ours),
            _far(path, *me, *other),
            _far(path, *me, "serve", "4", str(CUBIC_PORT)),
            _far(path, *me, "serve-stock") as stock,
        ):
            for name in SHAPES:
                figures |= _one_shape(path, name, size, given.runs, stock)
            figures |= _against_cubic(path, size, 1)  # the first seconds, before a loss, are alike
    return report("paths", mib=size // MIB, runs=given.runs, **figures)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case ["serve", number, port]:
                trio.run(serve, int(number), int(port))
            case ["serve-stock"]:
                trio.run(serve_stock)
            case ["measure", size, stock]:
                trio.run(measure, int(size), stock)
            case ["transfer", size, number, port]:
                trio.run(transfer, int(size), int(number), int(port))
            case _:
                sys.exit(main(sys.argv[1:]))
