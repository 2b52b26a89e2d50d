"""python -m tests.fuzz [--seconds N] [--live plain|secured] [TARGET…]: coverage-guided fuzzing with atheris.

Of the parsers, each in turn; with --live, of a whole node over bare or secured connections (tests/fuzz/live.py).

Each target runs in a process of its own, with its seeds and an empty working directory. An input that raises what its
target does not allow, takes more than 10 ms (the best of five tries) or 16 MiB is printed as hex; the exit code is 1.
Without atheris (it is for development only) the seeded mutations of tests/fuzz/mutations.py run for the same time.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from tests.fuzz.limits import LARGE, SLOW, SLOWED, TRIES


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--live", choices=("plain", "secured"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*")
    chosen = parser.parse_args(arguments)
    if chosen.inside and chosen.live:
        from tests.fuzz.live import fuzz

        fuzz(chosen.live, chosen.seconds)
        return 0
    if chosen.inside:
        return _inside(chosen.targets[0], chosen.seconds)
    if chosen.live:
        return 0 if _held(f"live {chosen.live}", ["--live", chosen.live], chosen.seconds) else 1
    from tests.fuzz.targets import TARGETS

    held = [_held(name, [name], chosen.seconds) for name in chosen.targets or TARGETS]
    return 0 if all(held) else 1


def _held(name: str, words: list[str], seconds: int) -> bool:
    command = [sys.executable, "-m", "tests.fuzz", "--inside", "--seconds", str(seconds), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(f"{name}: {'held' if done.returncode == 0 else 'FAILED'} {_figures(done.stderr)}", flush=True)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", flush=True)
    return done.returncode == 0


def _figures(told: str) -> str:
    """How far it came: "3458 inputs, edges 334 to 1126, features 456 to 1860"; the first of each with the seeds."""
    counts = re.findall(r"^#(\d+)\s+(?:INITED|DONE)\s+cov: (\d+) ft: (\d+)", told, re.MULTILINE)
    if len(counts) != 2:
        return ""
    (_, edges, features), (inputs, all_edges, all_features) = counts
    slowest = re.findall(r"^live::.*?(, slowest .*)$", told, re.MULTILINE)
    grown = f"edges {edges} to {all_edges}, features {features} to {all_features}"
    return f"{inputs} inputs, {grown}{''.join(slowest[-1:])}"


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
    for _ in range(TRIES):
        begun = time.thread_time()
        survives(data)
        best = min(best, time.thread_time() - begun)
    tracemalloc.start()
    survives(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if best > SLOWED * SLOW or peak > LARGE:
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
