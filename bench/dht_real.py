"""The DHT for real: 30 processes on loopback, and 100 engines in one process over in-memory streams.

Asked of the processes: provide p50 under 20 ms, first provider under 4 ms, absent key under 15 ms, join to ready under
1.5 s (Kubo in Go, 24 nodes: 9.3, 3.1, 9.5 ms); an idle server under 0.2 % of a core and 2 kB/s; twelve silent streams
harm nobody. Asked of the engines: start in 10 s, provide p50 under 60 ms.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from bench.dht_worker import provide, search
from bench.support import PeerProcess, median, report, workspace
from p2pshare.dht import DHT, open_dht
from p2pshare.store import open_store
from tests.support_dht import Board, FakeNetwork


class Node(PeerProcess):
    def __init__(self, number: int) -> None:
        super().__init__(Path(sys.executable), "dht_worker.py", str(number))
        self.peer = ""

    def do(self, what: str, argument: str = "") -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f'{{"do": "{what}", "with": "{argument}"}}\n')
        self._process.stdin.flush()
        return self.answer()


def p95(values: Sequence[float]) -> float:
    return round(sorted(values)[len(values) * 95 // 100], 3)


def processes(count: int, runs: int, idle: float) -> int:
    rng = random.Random(1)
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(number)) for number in range(1, count + 1)]
        addresses = [str(node.answer()["address"]) for node in nodes]
        joins = [node.do("join", addresses[0])["seconds"] for node in nodes[1:]]
        time.sleep(12)  # two rounds of looking for themselves, so that all know all
        warm = [node.do("provide", f"warm {at}") for at, node in enumerate(nodes)]
        provides, firsts, ends, missed = [], [], [], 0
        for run in range(runs):
            provider, seeker = rng.sample(nodes, 2)
            provides.append(1000 * provider.do("provide", f"key {run}")["seconds"])
            found = seeker.do("first", f"key {run}")
            missed += not found["found"]
            firsts.append(1000 * found["seconds"])
            ends.append(1000 * seeker.do("end", f"absent {run}")["seconds"])
        before = [node.do("cost") for node in nodes]
        time.sleep(idle)
        after = [node.do("cost") for node in nodes]
        pairs = list(zip(before, after, strict=True))
        core = [100 * (b["cpu"] - a["cpu"]) / (b["at"] - a["at"]) for a, b in pairs]
        rate = [(b["bytes"] - a["bytes"]) / (b["at"] - a["at"]) for a, b in pairs]
        opened = nodes[-1].do("silent", addresses[1])["opened"]
        harmed = [1000 * rng.choice(nodes[2:-1]).do("end", f"other {run}")["seconds"] for run in range(runs)]
        return report(
            "dht-real",
            nodes=count,
            runs=runs,
            stored=median([answer["stored"] for answer in warm]),
            join_s_p50=median(joins),
            join_s_max=round(max(joins), 3),
            provide_ms_p50=median(provides),
            provide_ms_p95=p95(provides),
            first_provider_ms_p50=median(firsts),
            absent_key_ms_p50=median(ends),
            missed=missed,
            idle_core_percent_p50=median(core),
            idle_bytes_a_second_p50=median(rate),
            silent_streams_opened=opened,
            absent_key_ms_p50_beside_silent_streams=median(harmed),
        )


async def engines(count: int, runs: int) -> int:
    """Everything but sockets: engines, stores, framing, tables."""
    rng = random.Random(1)
    with ExitStack() as stack:
        directory = stack.enter_context(workspace())
        async with trio.open_nursery() as nursery:
            board = Board(nursery)
            dhts: list[DHT] = []
            begun, used_before = time.perf_counter(), time.process_time()

            async def serve(net: FakeNetwork, task_status: Any) -> None:
                home = directory / str(len(dhts))
                home.mkdir()
                with open_store(home) as store:
                    async with open_dht(net, store, allow_private=True) as dht:
                        task_status.started(dht)
                        await trio.sleep_forever()

            for _ in range(count):
                net = board.node()
                dhts.append(await nursery.start(serve, net))
                if len(dhts) > 1:
                    await net.connect(next(iter(board.nodes.values())).addresses()[0])
            with trio.move_on_after(30):
                while min(int(str(dht.status()["nodes"])) for dht in dhts) < 20:
                    await trio.sleep(0.05)
            started, started_cpu = time.perf_counter() - begun, time.process_time() - used_before
            smallest = min(int(str(dht.status()["nodes"])) for dht in dhts)
            await trio.sleep(6)
            provides, used, firsts, ends, missed = [], [], [], [], 0
            for run in range(runs):
                provider, seeker = rng.sample(dhts, 2)
                stored = await provide(provider, f"key {run}")
                provides.append(1000 * stored["seconds"])
                used.append(1000 * stored["cpu"])
                found = await search(seeker, f"key {run}", first=True)
                missed += not found["found"]
                firsts.append(1000 * found["seconds"])
                ends.append(1000 * (await search(seeker, f"absent {run}", first=False))["seconds"])
            nursery.cancel_scope.cancel()
    return report(
        "dht-engines",
        nodes=count,
        runs=runs,
        start_s=round(started, 2),
        start_cpu_s=round(started_cpu, 2),
        smallest_table=smallest,
        provide_ms_p50=median(provides),
        provide_cpu_ms_p50=median(used),
        provide_ms_p95=p95(provides),
        first_provider_ms_p50=median(firsts),
        absent_key_ms_p50=median(ends),
        missed=missed,
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench dht-real", description=__doc__)
    parser.add_argument("--processes", type=int, default=30)
    parser.add_argument("--engines", type=int, default=100)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds")
    given = parser.parse_args(arguments)
    if given.engines:
        trio.run(engines, given.engines, given.runs)
    if given.processes:
        processes(given.processes, given.runs, given.idle)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
