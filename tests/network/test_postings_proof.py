"""Who says that it holds something is asked for a random part of it; who does not hold it is never called proven."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from p2pshare.index.lines import open_line
from p2pshare.index.proving import AGAIN, Prover
from p2pshare.net.api import Stream
from p2pshare_protocols import dagpb, item_record, unixfs
from p2pshare_protocols import exchange_messages as exchange
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from p2pshare_protocols.item_record import ItemRecord
from p2pshare_protocols.query import parse
from tests.support_postings import NOW, Clock, Node, nodes

LEAVES = [bytes([n]) * 1000 for n in range(20)]
LINKS = [dagpb.Link(CID.of(RAW, leaf), b"", len(leaf)) for leaf in LEAVES]
ROOT = dagpb.encode(LINKS, unixfs.encode_data("file", file_size=20_000, block_sizes=[1000] * 20))
BLOCKS = {CID.of(RAW, leaf).binary: leaf for leaf in LEAVES} | {CID.of(DAG_PB, ROOT).binary: ROOT}
TALK = ItemRecord(CID.of(DAG_PB, ROOT), "2026-raft.mp4", 20_000, "video", 7)


def holding(node: Node, blocks: dict[bytes, bytes]) -> list[bytes]:
    """Serve `blocks` by their CIDs; returns what is asked for."""
    asked: list[bytes] = []

    async def serve(stream: Stream) -> None:
        while True:
            try:
                length = exchange.header_length(await stream.receive_exactly(4))
            except trio.BrokenResourceError:
                return
            request = exchange.decode(await stream.receive_exactly(length))
            assert isinstance(request, exchange.Blocks)
            asked.extend(request.cids)
            block = blocks.get(request.cids[0])
            size = exchange.Mark.MISSING if block is None else len(block)
            await stream.send_all(exchange.encode(exchange.BlocksData(request.id, (size,), True)) + (block or b""))

    node.net.handle(exchange.PROTOCOL, serve)
    return asked


async def place(node: Node, at: Node) -> None:
    signed = item_record.sign(TALK, node.publisher.private)
    by = wire.state(node.publisher.private, int(NOW), node.net.peer_id, at.net.peer_id)
    async with open_line(node.net, at.net.peer_id, 5.0) as line:
        assert await line.ask(wire.Store(by, (wire.Entry(signed, ("raft",)),))) == wire.Kept((1,))


def proven(node: Node) -> tuple[int, bool]:
    """Of the one record that is there, and of its publisher."""
    [one] = node.store.postings.find("raft", [], NOW, 10)
    return one.proven, bool(node.store._db.number("SELECT proven FROM posting_owners"))


def prover(node: Node, clock: Clock) -> Prover:
    return Prover(node.net, node.store, wall_clock=clock, rng=random.Random(1))


async def test_a_publisher_that_holds_it_is_proven_by_its_root_and_one_leaf(tmp_path: Path) -> None:
    clock = Clock()
    async with nodes(2, tmp_path, clock) as (a, b):
        asked = holding(a, BLOCKS)
        await place(a, b)
        assert proven(b) == (0, False)
        proving = prover(b, clock)
        assert await proving.once() is True
        assert proven(b) == (int(NOW), True)
        assert [cid == TALK.cid.binary for cid in asked] == [True, False]
        assert await proving.once() is None  # seldom
        assert len(asked) == 2
        async with open_line(a.net, b.net.peer_id, 5.0) as line:
            records, _ = await line.find(wire.Find("raft", parse("raft"), 10))
        assert [at for _, at in records] == [int(NOW)]


FALSE = {
    "nothing": {},
    "only the root": {TALK.cid.binary: ROOT},
    "other bytes": {cid: block[:-1] + b"?" for cid, block in BLOCKS.items()},
    "other leaves": {cid: block if block is ROOT else b"?" * 1000 for cid, block in BLOCKS.items()},
}


@pytest.mark.parametrize("has", FALSE)
async def test_false_possession_never_counts_and_ends_what_was_proven_before(tmp_path: Path, has: str) -> None:
    clock = Clock()
    async with nodes(2, tmp_path, clock) as (a, b):
        holding(a, BLOCKS)
        await place(a, b)
        proving = prover(b, clock)
        assert await proving.once() is True
        holding(a, FALSE[has])
        clock.now += AGAIN * 7 + 1
        by = wire.state(a.publisher.private, int(clock.now), a.net.peer_id, b.net.peer_id, bytes(32))
        async with open_line(a.net, b.net.peer_id, 5.0) as line:
            await line.ask(wire.Heartbeat(by))  # it lives
        assert await proving.once() is False
        assert proven(b) == (0, False)


async def test_who_is_away_is_neither_proven_nor_disproved(tmp_path: Path) -> None:
    clock = Clock()
    async with nodes(2, tmp_path, clock) as (a, b):
        await place(a, b)  # it does not speak the exchange protocol
        assert await prover(b, clock).once() is None
        assert proven(b) == (0, False)
