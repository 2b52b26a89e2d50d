"""The in-run limit of moving a file: one process pair that reads, seals, opens, hashes and writes, and nothing else.

No framing beyond the record, no scheduling, no DAG, no second thread: what Python and the kernel can do at all on this
machine at this moment. `python -m bench limit` prints it; `transfer` prints its ratio to it.

    python -m bench.limit send PATH PORT       read PATH, seal it, send it; prints {"cpu"}
    python -m bench.limit receive PATH SIZE    prints {"port"}, then {"seconds", "cpu"}
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.support import MIB, median, options, report, workspace, write_file

PIECE = MIB
RECORD = 65_535 - 16  # bytes of plaintext: what Noise puts into one record
SEALED = RECORD + 16


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments)
    runs = []
    with workspace() as base:
        for run in range(given.runs):
            source = write_file(base / "source.bin", f"run {run}", given.size * MIB)
            runs.append(limit_run(source, base / "target.bin"))
            (base / "target.bin").unlink()
    return report(
        f"limit for {given.size} MiB", **{key: median([one[key] for one in runs]) for key in runs[0]}, runs=given.runs
    )


def limit_run(source: Path, target: Path) -> dict[str, float]:
    """Move `source` to `target` between two processes; seconds, and the CPU seconds of each side."""
    size = str(source.stat().st_size)
    with _start("receive", str(target), size) as receiver:
        port = str(_answer(receiver.stdout)["port"])
        with _start("send", str(source), port) as sender:
            received = _answer(receiver.stdout)
            sent = _answer(sender.stdout)
    return {
        "fetch_seconds": received["seconds"],
        "source_cpu_seconds": sent["cpu"],
        "fetcher_cpu_seconds": received["cpu"],
    }


def _start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "bench.limit", *words], stdout=subprocess.PIPE, text=True)


def _answer(stream: IO[str] | None) -> dict[str, Any]:
    assert stream is not None
    return dict(json.loads(stream.readline()))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def send(path: str, port: int) -> None:
    file = os.open(path, os.O_RDONLY)
    size = os.fstat(file).st_size
    cipher = AESGCM(bytes(16))
    plain, sealed = memoryview(bytearray(PIECE)), memoryview(bytearray(PIECE + 16 * 17))
    before, at = _cpu(), 0
    with socket.create_connection(("127.0.0.1", port)) as peer:
        for number in range(-(-size // PIECE)):
            count = os.preadv(file, [plain], number * PIECE)
            end = 0
            for at in range(0, count, RECORD):
                part = plain[at : min(at + RECORD, count)]
                cipher.encrypt_into(bytes(12), part, None, sealed[end : end + len(part) + 16])
                end += len(part) + 16
            peer.sendall(sealed[:end])
    print(json.dumps({"cpu": _cpu() - before}), flush=True)


def receive(path: str, size: int) -> None:
    """Every piece of PIECE bytes comes as the same records, so nothing has to tell their lengths."""
    cipher = AESGCM(bytes(16))
    sealed, plain = memoryview(bytearray(PIECE + 16 * 17)), memoryview(bytearray(PIECE))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(json.dumps({"port": server.getsockname()[1]}), flush=True)
        peer, _ = server.accept()
        before, begun = _cpu(), time.perf_counter()
        for start in range(0, size, PIECE):
            count = min(PIECE, size - start)
            whole = count + 16 * -(-count // RECORD)
            have = 0
            while have < whole:
                have += peer.recv_into(sealed[have:whole])
            for number in range(-(-count // RECORD)):
                at, end = number * SEALED, min((number + 1) * SEALED, whole)
                cipher.decrypt_into(
                    bytes(12), sealed[at:end], None, plain[number * RECORD : number * RECORD + end - at - 16]
                )
            hashlib.sha256(plain[:count]).digest()
            os.pwrite(file, plain[:count], start)
        os.fsync(file)
    print(json.dumps({"seconds": time.perf_counter() - begun, "cpu": _cpu() - before}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]))
    else:
        receive(sys.argv[2], int(sys.argv[3]))
