"""What attacks cost us, and how an honest peer is served meanwhile: the figures of the guard's table.

`python -m bench guard [--only NAME…]` prints one JSON line: for each attack {figure: {"limit", "measured", "held"}}.
Attackers, victim and honest peer share this machine's cores, so a figure says what it was at this load ("load" in the
line): run it on an idle machine. `--quick` makes the long ones a tenth.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from bench.support import report
from p2pshare.net import ping
from tests.support_guard import Times, Victim, attack, dial_once, p99, ping_all_along, victim, whole
from tests.support_nodes import RealNode, running

MIB = 1 << 20
Figures = dict[str, dict[str, Any]]


def at_most(limit: float, measured: float) -> dict[str, Any]:
    return {"limit": limit, "measured": round(measured, 4), "held": measured <= limit}


def told(measured: float) -> dict[str, Any]:
    """A figure that is nobody's limit and helps to read the others."""
    return {"limit": None, "measured": round(measured, 3), "held": True}


class Cores:
    """The cores that a process used since this was made, as its CPU seconds a second."""

    def __init__(self, pid: int) -> None:
        self._path = Path("/proc", str(pid), "stat")
        self._begun, self._spent = time.monotonic(), self._seconds()

    def used(self) -> float:
        return (self._seconds() - self._spent) / (time.monotonic() - self._begun)

    def _seconds(self) -> float:
        user, system = self._path.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def at_least(limit: float, measured: float) -> dict[str, Any]:
    return {"limit": limit, "measured": round(measured, 4), "held": measured >= limit}


@asynccontextmanager
async def pinged(target: Victim) -> AsyncIterator[Times]:
    """The round trips of an honest peer's pings while the body runs, in seconds."""
    times = Times()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping_all_along, target.address, 9, times)
        await times.reach(20)
        times.clear()
        yield times
        nursery.cancel_scope.cancel()


async def errors(scale: float) -> Figures:
    """A thousand bad names before and after the handshake, a thousand handlers that raise."""
    found: Figures = {}
    for name in ("bad_names_bare", "bad_names_inside", "raising"):
        with victim() as target:
            async with pinged(target) as times:
                await whole(name, target, count=1000)
                found[f"{name}: ping p99, s"] = at_most(0.1, p99(times))
            found[f"{name}: exits"] = at_most(0, int(target.process.poll() is not None))
    return found


async def one_after_another(scale: float) -> Figures:
    count = int(10_000 * scale)
    with victim(trace=True) as target:
        await whole("one_after_another", target, patience=600, count=100)
        before = (await target.asks())["traced"]
        done = await whole("one_after_another", target, patience=600, count=count)
        kept = ((await target.asks())["traced"] - before) / count
    return {
        f"{count} connections: answered": at_least(count, done["answered"]),
        "kept for each, bytes": at_most(1000, kept),
    }


async def half_open(scale: float) -> Figures:
    found: Figures = {}
    dials = max(20, int(100 * scale))
    for name in ("silent", "mid_handshake", "many_addresses"):
        with victim() as target, attack(name, target, count=1000, seconds=300, source="127.0.5.5") as attacker:
            await attacker.hears()
            ours, theirs = Cores(target.process.pid), Cores(attacker.process.pid)
            times = [await dial_once(target.address, 100 + number) for number in range(dials)]
            found[f"{name}: our CPU, cores"] = told(ours.used())
            found[f"{name}: the attacker's CPU, cores"] = told(theirs.used())
        good = [seconds for seconds in times if seconds is not None]
        found[f"{name}: honest dials that succeed"] = at_least(0.98, len(good) / dials)
        found[f"{name}: dial p99, s"] = at_most(1.5, p99(good))
    return found


PINGS_ALONE = 200  # while which it is measured what they cost


async def handshakes(scale: float) -> Figures:
    """What the honest peer's pings cost us is measured before, and taken off."""
    with victim() as target:
        async with pinged(target) as times:
            alone = Cores(target.process.pid)
            await times.reach(PINGS_ALONE)
            pings = alone.used()
            with attack("handshakes", target, seconds=10, source="127.0.5.5") as attacker:
                await attacker.hears()
                times.clear()
                ours, theirs, begun = Cores(target.process.pid), Cores(attacker.process.pid), time.monotonic()
                done = (await attacker.hears())["done"]
                seconds = time.monotonic() - begun
                spent, attackers = ours.used(), theirs.used()
                seen = list(times)
    return {
        "flood of handshakes: our CPU for them, cores": at_most(0.3, spent - pings),
        "flood of handshakes: our CPU for the pings, cores": told(pings),
        "flood of handshakes: the attacker's CPU, cores": told(attackers),
        "flood of handshakes: ping p99, s": at_most(0.05, p99(seen)),
        "flood of handshakes: made a second": at_least(1, done["made"] / seconds),
    }


async def muxer(scale: float) -> Figures:
    found: Figures = {}
    counts = {"ignore_window": 500, "hoard_streams": 10_000, "announce_much": 1000, "never_opened": 1000}
    for name, count in counts.items():
        with victim() as target:
            before = (await target.asks())["rss"]
            done = await whole(name, target, count=count)
            grown = (await target.asks())["rss"] - before
        found[f"{name}: told a protocol error"] = at_least(1, int(done["reason"] == 1))
        found[f"{name}: memory growth, MiB"] = at_most(64, grown / MIB)
    with victim(private=True, limits={"connections": 512}) as target:
        before = (await target.asks())["rss"]
        with attack("hoard_pings", target, count=200) as attacker:
            await attacker.hears()
            grown = (await target.asks())["rss"] - before
        found["hoard_pings: memory growth of 200 connections with 256 streams, MiB"] = at_most(64, grown / MIB)
    with victim() as target:
        async with pinged(target) as times:
            done = await whole("resets", target, count=200_000, seconds=20)
            found["resets: streams before the connection is closed"] = at_most(200_000 - 1, done["sent"])
            found["resets: ping p99, s"] = at_most(0.1, p99(times))
    return found


async def never_read(scale: float) -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        node = RealNode(Path(directory, "node"))
        with running(node):
            node.start()
            with attack("never_read", node.address(), count=50, protocol=ping.PROTOCOL) as attacker:
                await attacker.hears()
                descriptor = os.pidfd_open(node.pid)
                begun = time.monotonic()
                os.kill(node.pid, signal.SIGTERM)
                await trio.lowlevel.wait_readable(descriptor)
                seconds = time.monotonic() - begun
                os.close(descriptor)
    return {"50 that never read, then SIGTERM: s to the exit": at_most(5, seconds)}


async def descriptors(scale: float) -> Figures:
    with victim(private=True, descriptors=64) as target:
        with attack("connections", target, count=200) as attacker:
            await attacker.hears()
            used = (await target.asks())["descriptors"]
        again = await dial_once(target.address, 100)
    return {
        "64 descriptors, 200 connections: used": at_most(64 - 8, used),
        "64 descriptors: accepts again": at_least(1, int(again is not None)),
    }


async def mutants(scale: float) -> Figures:
    found: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        node = RealNode(Path(directory, "node"))
        with running(node):
            node.start()
            address = node.address()
            for name in ("mutants_bare", "mutants_inside"):
                done = await whole(name, address, patience=600, seconds=60 * scale)
                found[f"{name}: inputs"] = at_least(100, done["sent"])
                answered = await dial_once(address, 100) is not None
                found[f"{name}: alive and answering"] = at_least(1, int(answered))
            found["defects in the log"] = at_most(0, node.log_tail().count("Traceback"))
    return found


ATTACKS: dict[str, Callable[[float], Awaitable[Figures]]] = {
    attack.__name__: attack
    for attack in (
        errors,
        one_after_another,
        half_open,
        handshakes,
        muxer,
        never_read,
        descriptors,
        mutants,
    )
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args(arguments)
    begun, load = time.monotonic(), os.getloadavg()[0]
    found: dict[str, Figures] = {}
    for name in chosen.only:
        found[name] = trio.run(ATTACKS[name], 0.1 if chosen.quick else 1.0)
    held = all(figure["held"] for figures in found.values() for figure in figures.values())
    loads = {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)}
    report("guard", held=held, attacks=found, load=loads, seconds=round(time.monotonic() - begun))
    return 0 if held else 1
