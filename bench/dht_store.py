"""Provider records: 1,000,000 of them on disk, what they take there and in memory, and how fast an answer comes.

Asked: under 200 MiB on disk, no growth in memory, an answer within 5 ms.
"""

from __future__ import annotations

import hashlib
import os
import random
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from bench.support import MIB, median, options, report, workspace
from p2pshare.dht.records import LIFE, Records
from p2pshare.store import open_store

RECORDS = 1_000_000
PEERS = 20_000
KEYS = 400_000


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def key(number: int) -> bytes:
    return b"\x12\x20" + hashlib.sha256(b"%d" % number).digest()


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments, runs=2000)
    rng = random.Random(1)
    with workspace() as directory, open_store(directory) as store:
        peers = [f"12D3KooW{hashlib.sha256(b'%d' % n).hexdigest()[:44]}" for n in range(PEERS)]
        begun = time.monotonic()
        tenth = 0.0
        for batch in range(0, RECORDS, 10_000):
            with store.transaction():
                for number in range(batch, batch + 10_000):
                    place = number if number < KEYS else int(KEYS * rng.random() ** 2)  # some are popular
                    peer = rng.randrange(PEERS)
                    addresses = [f"/ip4/203.{peer >> 8 & 255}.{peer & 255}.7/tcp/4001"]
                    store.providers.put(
                        key(place),
                        peers[peer],
                        addresses,
                        time.time() + LIFE,
                        subnet=f"203.{peer >> 8}.{peer & 255}.0/24",
                    )
            if batch == RECORDS // 10:
                tenth = resident()
        filling = time.monotonic() - begun
        grown = resident() - tenth
        store._db.checkpoint()
        size = sum(path.stat().st_size for path in directory.iterdir() if "ballast" not in path.name)
        records = Records(store, "us", wall_clock=time.time, rng=rng)
        answers, puts = [], []
        for _ in range(given.runs):
            begun = time.perf_counter()
            records.tell(key(int(KEYS * rng.random() ** 2)), rng.choice(peers))
            answers.append(1000 * (time.perf_counter() - begun))
            begun = time.perf_counter()
            records.add(
                key(rng.randrange(KEYS)), rng.choice(peers), ["/ip4/203.0.1.7/tcp/4001"], subnets=["203.0.1.0/24"]
            )
            puts.append(1000 * (time.perf_counter() - begun))
        return report(
            "dht-store",
            records=store.providers.count(),
            disk_mib=round(size / MIB, 1),
            grown_mib=round(grown, 1),
            peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            put_per_second=round(RECORDS / filling),
            answer_ms_p50=median(answers),
            answer_ms_p99=round(sorted(answers)[len(answers) * 99 // 100], 3),
            answer_ms_max=round(max(answers), 3),
            put_ms_p50=median(puts),
            put_ms_p99=round(sorted(puts)[len(puts) * 99 // 100], 3),
        )
