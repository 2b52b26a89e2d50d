"""Announcing many items again: CPU of the one who announces, over in-memory streams to nodes that only nod.

Asked: 200,000 items, each once in 22 h, under 1 % of a core. The engine, store, sweep and framing are the daemon's; a
connection's encryption is not in it (2 us a message of 150 bytes).
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import trio

from bench.support import report, workspace
from p2pshare.dht import open_dht
from p2pshare.dht.engine import OURS
from p2pshare.dht.records import REPUBLISH
from p2pshare.net.api import Stream
from p2pshare.store import open_store
from p2pshare_protocols import kad_messages, varint
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.kad_messages import Kind, Message, Peer
from tests.support_dht import Board, FakeNetwork


class Nodding:
    """A server that takes every record and knows all others."""

    def __init__(self, board: Board, net: FakeNetwork) -> None:
        self._board = board
        self.taken = 0
        net.handle(OURS, self.serve)

    async def serve(self, stream: Stream) -> None:
        with suppress(trio.BrokenResourceError):
            await self._converse(stream)

    async def _converse(self, stream: Stream) -> None:
        buffer = b""
        while data := await stream.receive_some(65536):
            buffer += data
            at = 0
            while at + 2 <= len(buffer):
                size, start = varint.decode(buffer + b"\0", at)
                if start + size > len(buffer):
                    break
                await self._answer(stream, buffer[start : start + size])
                at = start + size
            buffer = buffer[at:]

    async def _answer(self, stream: Stream, body: bytes) -> None:
        if body[1] == Kind.ADD_PROVIDER:
            self.taken += 1
            return
        asked = kad_messages.decode(body)
        told = random.Random(asked.key).sample(list(self._board.nodes.values()), 20)
        closer = tuple(Peer(node.peer_id, (node.address,)) for node in told)
        own = (Peer(stream.peer_id, ()),)
        await stream.send_all(kad_messages.frame(Message(asked.kind, key=asked.key, closer=closer, providers=own)))


async def announce(items: int, nodes: int) -> int:
    cids = [CID.of(RAW, b"%d" % number) for number in range(items)]
    done = trio.Event()
    left = items
    with workspace() as directory, open_store(directory) as store:
        async with trio.open_nursery() as nursery:
            board = Board(nursery)
            servers = [Nodding(board, board.node()) for _ in range(nodes)]
            us = board.node(listens=True)

            def heard(cid: CID, receipt: Any) -> None:
                nonlocal left
                left -= 1
                if not left:
                    done.set()

            options: dict[str, Any] = {"announced": lambda: cids, "reannounced": heard, "rate": 1e9}
            async with open_dht(us, store, allow_private=True, **options):
                for net in list(board.nodes.values())[:nodes]:
                    await us.connect(net.addresses()[0])
                await trio.sleep(29)
                begun, used = time.perf_counter(), time.process_time()
                await done.wait()
                seconds, cpu = time.perf_counter() - begun, time.process_time() - used
            nursery.cancel_scope.cancel()
    taken = sum(server.taken for server in servers)
    return report(
        "dht-announce",
        items=items,
        messages=taken,
        messages_an_item=round(taken / items, 1),
        seconds=round(seconds, 1),
        cpu_ms_an_item=round(1000 * cpu / items, 3),
        core_percent_at_200000=round(100 * cpu / items * 200_000 / REPUBLISH, 3),
        messages_a_second_at_200000=round(taken / items * 200_000 / REPUBLISH, 1),
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench dht-announce", description=__doc__)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--nodes", type=int, default=60)
    given = parser.parse_args(arguments)
    return trio.run(announce, given.items, given.nodes)
