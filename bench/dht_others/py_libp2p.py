"""N nodes of libp2p's kad_dht on loopback: python py_libp2p.py NODES RUNS. Says {"provide_ms", "find_ms", "missed",
"table"} on its last line."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from contextlib import AsyncExitStack

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.tools.anyio_service.context import background_trio_service


async def main(count: int, runs: int) -> None:
    provides, finds, missed = [], [], 0
    async with AsyncExitStack() as stack:
        nodes: list[KadDHT] = []
        first = None
        for number in range(count):
            host = new_host(key_pair=create_new_key_pair((number + 1).to_bytes(32, "big")))
            await stack.enter_async_context(host.run([multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]))
            node = KadDHT(host, DHTMode.SERVER)
            await stack.enter_async_context(background_trio_service(node))
            if first is None:
                first = host
            else:
                about = info_from_p2p_addr(host_address(first))
                await host.connect(about)
                await node.routing_table.add_peer(about)
            nodes.append(node)
        for _ in range(3):  # it does not learn others by itself in time
            for node in nodes:
                await node.refresh_routing_table()
        for run in range(runs):
            key = hashlib.sha256(b"key %d" % run).hexdigest()
            one = run * 7 % count
            two = (one + 1 + run % (count - 1)) % count
            begun = time.perf_counter()
            await nodes[one].provide(key)
            provides.append(1000 * (time.perf_counter() - begun))
            begun = time.perf_counter()
            missed += not await nodes[two].find_providers(key, 1)
            finds.append(1000 * (time.perf_counter() - begun))
        table = min(node.get_routing_table_size() for node in nodes)
        print(json.dumps({"provide_ms": provides, "find_ms": finds, "missed": missed, "table": table}), flush=True)
        # Its services wait for each other at the end: the answer is given, so the process ends here.
        import os

        os._exit(0)


def host_address(host: object) -> multiaddr.Multiaddr:
    return host.get_addrs()[0]  # type: ignore[attr-defined, no-any-return]


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
