"""iroh 0.35.0 as a peer to measure against; runs in an environment of its own, without a network.

publish PATH STORE      take PATH in place into a persistent store; prints {"seconds", "cpu"}
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import sys
import time

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # unshare(2)


def stay_alone() -> None:
    """iroh asks for its makers' relays as soon as a node starts: nothing of this machine leaves it."""
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace can be made")


async def publish(path: str, store: str) -> None:
    import iroh

    class Progress(iroh.AddCallback):
        async def progress(self, progress: object) -> None:
            return None

    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    node = await iroh.Iroh.persistent_with_options(
        store, iroh.NodeOptions(node_discovery=iroh.NodeDiscoveryConfig.NONE)
    )
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    await node.blobs().add_from_path(path, True, iroh.SetTagOption.auto(), iroh.WrapOption.no_wrap(), Progress())
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu}), flush=True)
    await node.node().shutdown()


if __name__ == "__main__":
    stay_alone()
    asyncio.run(publish(sys.argv[2], sys.argv[3]))
