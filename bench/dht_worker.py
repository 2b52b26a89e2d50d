"""One real node of `bench.dht_real`: a process with its own sockets, store and DHT; a JSON line in, a JSON line out."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is run as a script, in a process of its own

from p2pshare.dht import DHT, open_dht
from p2pshare.net.api import Network, Stream
from p2pshare.store import open_store
from p2pshare_protocols.cid import CID, RAW
from tests.support_net import network

JOINED = 10
"""Nodes in the table with which a node counts as ready."""


def cid(text: str) -> CID:
    return CID.of(RAW, text.encode())


async def join(net: Network, dht: DHT, number: int, address: str) -> dict[str, Any]:
    begun = time.perf_counter()
    await net.connect(address)
    with trio.move_on_after(10):
        while int(str(dht.status()["nodes"])) < min(JOINED, number - 1):
            await trio.sleep(0.002)
    return {"seconds": time.perf_counter() - begun, "nodes": dht.status()["nodes"]}


async def provide(dht: DHT, text: str) -> dict[str, Any]:
    begun, used = time.perf_counter(), time.process_time()
    receipt = await dht.provide(cid(text))
    cpu = time.process_time() - used
    return {"seconds": time.perf_counter() - begun, "cpu": cpu, "stored": receipt.stored, "asked": receipt.asked}


async def search(dht: DHT, text: str, *, first: bool) -> dict[str, Any]:
    """Until the first provider, or to the end."""
    begun = time.perf_counter()
    found = 0
    async with dht.find_providers(cid(text)) as providers:
        async for _ in providers:
            found += 1
            if first:
                break
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "found": found}


def cost(net: Network) -> dict[str, Any]:
    peers = net.peers()
    used = sum(peer.bytes_in + peer.bytes_out for peer in peers)
    return {"cpu": time.process_time(), "bytes": used, "at": time.perf_counter(), "peers": len(peers)}


async def silent(net: Network, address: str, held: list[Stream]) -> dict[str, Any]:
    """Twelve streams to a server on which nothing is ever said."""
    peer_id = await net.connect(address)
    for _ in range(12):
        with trio.move_on_after(1):
            held.append(await net.open_stream(peer_id, ["/p2pshare/kad/1.0.0"]))
    return {"opened": len(held)}


async def serve(number: int, directory: Path) -> None:
    held: list[Stream] = []
    with open_store(directory) as store:
        async with network(number) as net, open_dht(net, store, allow_private=True) as dht:
            actions: dict[str, Any] = {
                "join": partial(join, net, dht, number),
                "provide": partial(provide, dht),
                "first": partial(search, dht, first=True),
                "end": partial(search, dht, first=False),
                "silent": lambda address: silent(net, address, held),
            }
            print(json.dumps({"address": net.addresses()[0]}), flush=True)
            async for line in lines():
                asked = json.loads(line)
                if asked["do"] == "cost":
                    said = cost(net)
                else:
                    said = await actions[asked["do"]](asked["with"])
                print(json.dumps(said), flush=True)


async def lines() -> Any:
    async with trio.lowlevel.FdStream(0) as source:
        buffer = b""
        while data := await source.receive_some(4096):
            buffer += data
            *whole, buffer = buffer.split(b"\n")
            for line in whole:
                yield line


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        trio.run(serve, int(sys.argv[1]), Path(made))
