"""What the figures share: places on tmpfs, content, medians, peers in environments of their own."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE / ".peers"
MIB = 1024 * 1024


@contextmanager
def workspace() -> Iterator[Path]:
    """A directory on tmpfs where there is one, so that no figure measures the disk by chance."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="p2pshare-bench-", dir=parent) as directory:
        yield Path(directory)


def unique_bytes(seed: str, size: int) -> Iterator[bytes]:
    """`size` bytes that do not repeat, in parts of up to 16 MiB."""
    part = 0
    while size > 0:
        count = min(size, 16 * MIB)
        yield hashlib.shake_128(f"{seed}/{part}".encode()).digest(count)
        size -= count
        part += 1


def write_file(path: Path, seed: str, size: int) -> Path:
    with path.open("wb") as sink:
        sink.writelines(unique_bytes(seed, size))
    return path


def write_tree(path: Path, count: int, size: int) -> Path:
    """`count` files of `size` bytes in 100 directories."""
    whole = b"".join(unique_bytes("tree", count * size))
    for number in range(count):
        directory = path / f"d{number % 100:02d}"
        if number < 100:
            directory.mkdir(parents=True)
        (directory / f"file-{number:05d}.bin").write_bytes(whole[number * size : (number + 1) * size])
    return path


def peer_python(name: str, *packages: str) -> Path:
    """The interpreter of a peer's own environment, made on first use."""
    home = PEERS / name
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return python


class PeerProcess:
    """A peer's script in its own environment; speaks one JSON line an answer."""

    def __init__(self, python: Path, script: str, *arguments: str) -> None:
        command = [str(python), str(HERE / script), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with {self._process.wait()}")
        return dict(json.loads(line))

    def end_input(self) -> None:
        """Tell the peer that its work is over; it may still answer with what it cost."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()

    def close(self) -> None:
        self.end_input()
        self._process.wait(30)

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def options(doc: str, arguments: Sequence[str], runs: int = 5) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--size", type=int, default=1024, help="MiB, where a figure moves one file")
    return parser.parse_args(arguments)


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


def report(figure: str, **values: Any) -> int:
    print(json.dumps({"figure": figure, **values}))
    sys.stdout.flush()
    return 0
