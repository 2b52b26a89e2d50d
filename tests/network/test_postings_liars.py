"""Three storing nodes of eight that agree, drawn first: they drop, publish rows of their own, lie about full lists."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.net.api import Stream
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols import item_record
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.index_messages import PROTOCOL
from p2pshare_protocols.item_record import ItemRecord, Signed
from p2pshare_protocols.postings_ask import Named
from tests.support_postings import Node, nodes
from tests.support_search import add_file
from tests.support_until import until

TALK = ItemRecord(CID.of(RAW, b"hello"), "2026-raft.mp4", 1 << 30, "video", 7)
LIAR = Ed25519PrivateKey.from_private_bytes(b"L" * 32)


class LiarsFirst(random.Random):
    """The worst draw that there is."""

    def __init__(self, liars: list[Node]) -> None:
        super().__init__(1)
        self._liars = {one.net.peer_id for one in liars}

    def shuffle(self, x: Any) -> None:
        x.sort(key=lambda one: one.peer_id not in self._liars)


async def share(node: Node, *names: str) -> None:
    for name in names:
        item = node.store.items.by_cid(add_file(node.store, name))
        assert item is not None
        with trio.fail_after(10):
            await node.placer.post(item)


def lying(group: list[Node], records: tuple[Signed, ...], end: wire.FindEnd) -> None:
    async def lie(stream: Stream) -> None:
        await stream.receive_some()
        frames = [wire.encode(page) for page in wire.pages((one, 1) for one in records)[0]]
        await stream.send_all(b"".join(frames) + wire.encode(end))
        await stream.aclose()

    for liar in group:
        liar.net.handle(PROTOCOL, lie)


def rows_of_their_own(count: int) -> tuple[Signed, ...]:
    made = (replace(TALK, cid=CID.of(RAW, b"spam %d" % n), name=f"raft {n}.mp4") for n in range(count))
    return tuple(item_record.sign(one, LIAR) for one in made)


LIES = {
    "they have nothing": ((), wire.FindEnd(True, {"raft": 0})),
    "rows of their own": (rows_of_their_own(20), wire.FindEnd(True, {"raft": 20})),
    "that the list is full": ((), wire.FindEnd(True, {"raft": 20_000}, sharded=True)),
    "that others have more": ((), wire.FindEnd(True, {}, tuple(Named(bytes([n]) * 32, 1, True) for n in range(32)))),
}


@pytest.mark.parametrize("lie", LIES)
async def test_three_liars_who_agree_hide_nothing_in_the_worst_draw(tmp_path: Path, lie: str) -> None:
    async with nodes(9, tmp_path) as group:
        a, asker, *keepers = group
        await share(a, "raft talk.mp4", "raft notes.txt")
        lying(keepers[:3], *LIES[lie])
        asker.tier._rng, asker.tier._keeper = LiarsFirst(keepers[:3]), None  # it keeps none of these itself
        for limit in (20, 50):
            rows, _ = await asker.search("raft", limit=limit)
            assert {"raft talk.mp4", "raft notes.txt"} <= {one["name"] for one in rows}


async def test_three_liars_cannot_hide_that_a_list_is_full(tmp_path: Path) -> None:
    async with nodes(9, tmp_path) as group:
        a, asker, *keepers = group
        for one in group:
            one.store.postings._room = 2
        await share(a, "raft one.mp4", "raft two.mp4", "raft three.mp4", "raft four.mp4")
        await until(lambda: not a.store.own_postings.counts()["waiting"], nudge=a.placer.wake)
        lying(keepers[:3], (), wire.FindEnd(True, {"raft": 0}))
        asker.tier._rng, asker.tier._keeper = LiarsFirst(keepers[:3]), None
        rows, _ = await asker.search("raft")
        assert {one["name"] for one in rows} == {f"raft {one}.mp4" for one in ("one", "two", "three", "four")}
