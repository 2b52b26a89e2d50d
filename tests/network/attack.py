"""python -m tests.network.attack NAME ADDRESS OPTIONS: one attack on ADDRESS, in a process of its own.

It prints {"ready": …} when the attack stands and {"done": …} when it has run, then holds what it has open until stdin
ends. OPTIONS is JSON: "count", "source" (an address of loopback to come from), "seconds", "protocol".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.network import attack_bare, attack_frames, attack_streams
from tests.network.attacker import Attack

ATTACKS: dict[str, Callable[[Attack], Awaitable[dict[str, Any]]]] = {
    attack.__name__: attack
    for attack in (
        attack_bare.bad_names_bare,
        attack_bare.silent,
        attack_bare.mid_handshake,
        attack_bare.many_addresses,
        attack_bare.handshakes,
        attack_bare.connections,
        attack_bare.mutants_bare,
        attack_streams.bad_names_inside,
        attack_streams.raising,
        attack_streams.one_after_another,
        attack_streams.never_read,
        attack_streams.hoard_pings,
        attack_streams.mutants_inside,
        attack_frames.resets,
        attack_frames.ignore_window,
        attack_frames.hoard_streams,
        attack_frames.announce_much,
        attack_frames.never_opened,
    )
}


async def main(name: str, address: str, options: dict[str, Any]) -> None:
    attack = Attack(address, options)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            print(json.dumps({"done": await ATTACKS[name](attack)}), flush=True)

        nursery.start_soon(run)
        async with trio.lowlevel.FdStream(os.dup(0)) as told:
            while await told.receive_some(4096):
                pass
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
