"""A source that lies, as a process of its own: what it serves of FILE has one bit wrong in every block with MARKER.

python -m tests.e2e.evil_source HOME FILE

Prints one JSON line with its address and the honest CID, then "lied" for each block that it falsified, until its
standard input ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import trio

from p2pshare.content import BlockReader
from p2pshare.dht import Receipt
from p2pshare.errors import LocalError
from p2pshare.exchange.server import ExchangeServer
from p2pshare.publish import ShareOptions, share
from p2pshare.store import open_store
from p2pshare_protocols.cid import CID
from tests.support_net import network

MARKER = b"FALSIFY-ME"


class LyingReader(BlockReader):
    """Flips the lowest bit of MARKER's first byte in what it reads."""

    async def read_into(self, cids: Sequence[CID], buffer: memoryview) -> list[int | LocalError]:
        sizes = await super().read_into(cids, buffer)
        length = sum(size for size in sizes if isinstance(size, int))
        at = bytes(buffer[:length]).find(MARKER)
        while at >= 0:
            buffer[at] ^= 1
            print("lied", flush=True)
            at = bytes(buffer[:length]).find(MARKER)
        return sizes


class Job:
    """What of a JobHandle sharing needs."""

    id = 1

    def __getattr__(self, _name: str) -> Any:
        return lambda *args, **options: None


async def nowhere(_cid: CID) -> Receipt:
    return Receipt(0, 0)


async def main(home: Path, file: Path) -> None:
    home.mkdir(mode=0o700)
    with open_store(home, wall_clock=time.time) as store, closing(LyingReader(store, wall_clock=time.time)) as reader:
        options = ShareOptions.from_params({"paths": [str(file)]})
        done = await share(store=store, options=options, job=Job(), announce=nowhere, wall_clock=time.time)
        async with network(66) as net:
            ExchangeServer(net, reader, store)
            print(json.dumps({"address": net.addresses()[0], "link": done["link"]}), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    trio.run(main, *map(Path, sys.argv[1:]))
