"""iroh 0.35.0 as a peer to measure against; runs in an environment of its own, without a network.

publish PATH STORE          take PATH in place into a persistent store; prints {"seconds", "cpu"}
transfer PATH DIRECTORY     a second process serves PATH, this one fetches it to DIRECTORY/fetched, both on a loopback
                            of their own; prints {"seconds", "source_cpu", "fetcher_cpu"}
serve PATH STORE            what transfer starts; prints {"node", "address", "hash"}, serves until its input ends
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # unshare(2)


def stay_alone() -> None:
    """iroh asks for its makers' relays as soon as a node starts: nothing of this machine leaves it."""
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace can be made")


def cpu(who: int = resource.RUSAGE_SELF) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


async def opened(store: str) -> Any:
    import iroh

    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    options = iroh.NodeOptions(node_discovery=iroh.NodeDiscoveryConfig.NONE, ipv4_addr="127.0.0.1:0")
    return await iroh.Iroh.persistent_with_options(store, options)


async def add(node: Any, path: str) -> Any:
    import iroh

    kept: list[Any] = []

    class Adding(iroh.AddCallback):
        async def progress(self, progress: Any) -> None:
            if progress.type() == iroh.AddProgressType.ALL_DONE:
                kept.append(progress.as_all_done())

    await node.blobs().add_from_path(path, True, iroh.SetTagOption.auto(), iroh.WrapOption.no_wrap(), Adding())
    return kept[0].hash


async def publish(path: str, store: str) -> None:
    node = await opened(store)
    before, begun = cpu(), time.perf_counter()
    await add(node, path)
    print(json.dumps({"seconds": time.perf_counter() - begun, "cpu": cpu() - before}), flush=True)
    await node.node().shutdown()


async def serve(path: str, store: str) -> None:
    node = await opened(store)
    hash = await add(node, path)
    address = await node.net().node_addr()
    direct = [one for one in address.direct_addresses() if one.startswith("127.")]
    print(json.dumps({"node": str(await node.net().node_id()), "addresses": direct, "hash": str(hash)}), flush=True)
    before = cpu()
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"cpu": cpu() - before}), flush=True)
    await node.node().shutdown()


async def transfer(path: str, directory: str) -> None:
    import iroh

    class Fetching(iroh.DownloadCallback):
        async def progress(self, progress: object) -> None:
            return None

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    command = [sys.executable, __file__, "serve", path, f"{directory}/served"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        told = json.loads(server.stdout.readline())
        node = await opened(f"{directory}/store")
        key = iroh.PublicKey.from_string(told["node"])
        peer = iroh.NodeAddr(key, None, told["addresses"])
        options = iroh.BlobDownloadOptions(iroh.BlobFormat.RAW, [peer], iroh.SetTagOption.auto())
        hash = iroh.Hash.from_string(told["hash"])
        before, begun = cpu(), time.perf_counter()
        await node.blobs().download(hash, options, Fetching())
        target = f"{directory}/fetched"
        mode = iroh.BlobExportMode.TRY_REFERENCE
        await node.blobs().export(hash, target, iroh.BlobExportFormat.BLOB, mode)
        seconds, used = time.perf_counter() - begun, cpu() - before
        assert os.path.getsize(target) == os.path.getsize(path)
        server.stdin.close()
        served = json.loads(server.stdout.readline())["cpu"]
        print(json.dumps({"seconds": seconds, "fetcher_cpu": used, "source_cpu": served}), flush=True)
        await node.node().shutdown()


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb != "serve":
        stay_alone()
    asyncio.run({"publish": publish, "serve": serve, "transfer": transfer}[verb](*rest))
