"""Fetch one file of 1 GiB over loopback: p2pshare against nginx and curl with TLS 1.3, rsync, and iroh 0.35.0.

Two processes each, files on tmpfs, in turn in one run, from the request to the file in its place. nginx with curl is
encrypted and checks nothing; rsync (its own daemon, `--whole-file`) is plaintext and compares a checksum at the end;
iroh is encrypted and verifies (its time is that of download and export by reference). CPU seconds are those of a GB,
of source and fetcher. What is not installed is left out, with a reason.
"""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import nginx
from bench.support import (
    MIB,
    PeerProcess,
    cpu_seconds,
    median,
    options,
    peer_python,
    report,
    workspace,
    write_file,
)
from bench.transfer import p2pshare_run

Run = dict[str, float]


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments)
    peers, skipped = _peers()
    ours: list[Run] = []
    theirs: dict[str, list[Run]] = {name: [] for name in peers}
    with workspace() as base:
        for number in range(given.runs):
            source = write_file(base / "source.bin", f"run {number}", given.size * MIB)
            ours.append(p2pshare_run(base / "ours", source))
            for name, run in peers.items():
                place = base / name
                place.mkdir()
                theirs[name].append(run(source, place))
                shutil.rmtree(place)
    figures: dict[str, Any] = {"p2pshare": _medians(ours, given.size)}
    for name, runs in theirs.items():
        faster = median([t["fetch_seconds"] / o["fetch_seconds"] for o, t in zip(ours, runs, strict=True)])
        figures[name] = {**_medians(runs, given.size), "times_faster": faster}
    asked = {"nginx.times_faster": 1.2}
    return report(f"fetch of {given.size} MiB", **figures, asked=asked, skipped=skipped, runs=given.runs)


def _medians(runs: list[Run], mib: int) -> dict[str, float]:
    a_gb = 1e9 / (mib * MIB)
    return {
        "fetch_seconds": median([one["fetch_seconds"] for one in runs]),
        "source_cpu_a_gb": median([one["source_cpu_seconds"] * a_gb for one in runs]),
        "fetcher_cpu_a_gb": median([one["fetcher_cpu_seconds"] * a_gb for one in runs]),
    }


def _peers() -> tuple[dict[str, Callable[[Path, Path], Run]], list[str]]:
    peers: dict[str, Callable[[Path, Path], Run]] = {}
    skipped = []
    for name, tools, run in (("nginx", ("nginx", "curl", "openssl"), _nginx), ("rsync", ("rsync",), _rsync)):
        if absent := [tool for tool in tools if shutil.which(tool) is None]:
            skipped.append(f"{name}: {', '.join(absent)} not installed")
        else:
            peers[name] = run
    try:
        python = peer_python("iroh", "iroh==0.35.0")
        peers["iroh"] = lambda source, place: _iroh(python, source, place)
    except (subprocess.CalledProcessError, OSError) as error:
        skipped.append(f"iroh: {error}")
    return peers, skipped


def _nginx(source: Path, place: Path) -> Run:
    port = _free_port()
    with _server(nginx.command(source.parent, place, f"127.0.0.1:{port}"), port) as pid:
        before = cpu_seconds(pid)
        url = f"https://127.0.0.1:{port}/{source.name}"
        seconds, fetcher = _timed(["curl", "-sk", "-o", str(place / "fetched"), url], place / "fetched", source)
        return {
            "fetch_seconds": seconds,
            "source_cpu_seconds": cpu_seconds(pid) - before,
            "fetcher_cpu_seconds": fetcher,
        }


def _rsync(source: Path, place: Path) -> Run:
    port = _free_port()
    (place / "rsyncd.conf").write_text(
        f"use chroot = no\nuid = root\ngid = root\n[bench]\npath = {source.parent}\nread only = yes\n"
    )
    command = ["rsync", "--daemon", "--no-detach", f"--port={port}", "--address=127.0.0.1"]
    with _server([*command, f"--config={place / 'rsyncd.conf'}"], port) as pid:
        before = _with_children(pid)
        url = f"rsync://127.0.0.1:{port}/bench/{source.name}"
        target = place / "fetched"
        seconds, fetcher = _timed(["rsync", "--whole-file", "--inplace", url, str(target)], target, source)
        served = _with_children(pid, before) - before
        return {"fetch_seconds": seconds, "source_cpu_seconds": served, "fetcher_cpu_seconds": fetcher}


def _iroh(python: Path, source: Path, place: Path) -> Run:
    with PeerProcess(python, "iroh_peer.py", "transfer", str(source), str(place)) as peer:
        answer = peer.answer()
    return {
        "fetch_seconds": answer["seconds"],
        "source_cpu_seconds": answer["source_cpu"],
        "fetcher_cpu_seconds": answer["fetcher_cpu"],
    }


def _timed(command: list[str], target: Path, source: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of a fetching command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert target.stat().st_size == source.stat().st_size
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _with_children(pid: int, more_than: float = -1.0) -> float:
    """CPU seconds of a process and of its children that ended; waits until they are more than `more_than`."""
    for _ in range(100):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds = sum(map(int, fields[11:15])) / 100
        if seconds > more_than:
            break
        time.sleep(0.01)
    return seconds


@contextmanager
def _server(command: list[str], port: int) -> Iterator[int]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            _until_open(port)
            yield server.pid
        finally:
            server.terminate()


def _until_open(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise RuntimeError("the server does not come up")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
