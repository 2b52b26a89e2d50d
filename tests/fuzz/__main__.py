"""python -m tests.fuzz [--seconds N] [TARGET…]: coverage-guided fuzzing of the parsers with atheris, each in turn.

Each target runs in a process of its own, with its seeds and an empty working directory. An input that raises what its
target does not allow, takes more than 10 ms (the best of five tries) or 16 MiB is printed as hex; the exit code is 1.
Without atheris (it is for development only) the seeded mutations of tests/fuzz/mutations.py run for the same time.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

SLOW = 0.010  # seconds that one input may take
LARGE = 16 << 20  # bytes that one input may make a parser hold


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*")
    chosen = parser.parse_args(arguments)
    if chosen.inside:
        return _inside(chosen.targets[0], chosen.seconds)
    from tests.fuzz.targets import TARGETS

    failed = 0
    for name in chosen.targets or TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", "--inside", "--seconds", str(chosen.seconds), name]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        figures = [line for line in done.stderr.splitlines() if "DONE" in line or "stat::" in line]
        print(f"{name}: {'held' if done.returncode == 0 else 'FAILED'} {' '.join(figures)[:200]}", flush=True)
        if done.returncode:
            failed += 1
            print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", flush=True)
    return 1 if failed else 0


def _inside(name: str, seconds: int) -> int:
    if importlib.util.find_spec("atheris") is None:
        return _mutate(name, seconds)
    import atheris

    with atheris.instrument_imports(include=["p2pshare_protocols", "p2pshare"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]

    def one(data: bytes) -> None:
        begun = time.thread_time()
        try:
            target.survives(data)
        except BaseException:
            print(f"raised for {data.hex()}", flush=True)
            raise
        if time.thread_time() - begun > SLOW:
            _judge(target.survives, data)

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            Path(corpus, str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds}", "-max_len=65536", "-print_final_stats=1", "-artifact_prefix=/dev/null"]
        atheris.Setup([sys.argv[0], *options, "-seed=1", corpus], one)
        atheris.Fuzz()
    return 0


def _judge(survives: object, data: bytes) -> None:
    """Fails for an input that is slow in every one of five tries, or holds too much."""
    assert callable(survives)
    best = 1.0
    for _ in range(5):
        begun = time.thread_time()
        survives(data)
        best = min(best, time.thread_time() - begun)
    tracemalloc.start()
    survives(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Instrumented code is several times slower than the daemon's; what is judged here is growth, so leave it room.
    if best > 5 * SLOW or peak > LARGE:
        print(f"{best * 1000:.1f} ms, {peak} bytes for {len(data)} bytes {data[:4096].hex()}", flush=True)
        raise AssertionError("an input is too slow or too large")


def _mutate(name: str, seconds: int) -> int:
    from tests.fuzz.mutations import mutations
    from tests.fuzz.targets import TARGETS

    end, seed = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for data in mutations(TARGETS[name].seeds, count=1000, seed=seed):
            TARGETS[name].survives(data)
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
