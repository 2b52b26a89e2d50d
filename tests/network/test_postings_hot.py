"""What is asked often is pushed to nodes around, told by them for minutes, and ends a search once one keeper agrees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pshare.index import HotAnswers
from p2pshare.index import hot as hot_module
from p2pshare.index.lines import open_line
from p2pshare_protocols import index_hot, item_record
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.index_hot import Hot
from p2pshare_protocols.item_record import ItemRecord, Signed
from p2pshare_protocols.query import parse
from tests.support_postings import Node, nodes
from tests.support_search import add_file
from tests.support_until import until

TALK = ItemRecord(CID.of(RAW, b"hello"), "2026-raft.mp4", 1 << 30, "video", 7)
FIND = wire.Find("raft", parse("raft"), 50)


class Clocked:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def attend(group: list[Node], clock: Clocked) -> None:
    for one in group:
        one.keeper.hot = HotAnswers(one.net, one.dht, one.placer._regions, one.keeper.tell, clock)


async def ask(node: Node, at: Node) -> tuple[list[Signed], wire.FindEnd]:
    async with open_line(node.net, at.net.peer_id, 5.0) as line:
        records, end = await line.find(FIND)
    return [one for one, _ in records], end


async def test_the_eighth_ask_pushes_the_answer_around_and_it_is_told_for_minutes(tmp_path: Path) -> None:
    clock = Clocked()
    async with nodes(12, tmp_path) as group, trio.open_nursery() as nursery:
        attend(group, clock)
        a = group[0]
        item = a.store.items.by_cid(add_file(a.store, "raft talk.mp4"))
        assert item is not None
        await a.placer.post(item)
        keepers = [one for one in group if one.store.postings.counts(["raft"])]
        others = [one for one in group[1:] if one not in keepers]
        keeper, asker = keepers[0], a
        assert keeper.keeper.hot is not None
        nursery.start_soon(keeper.keeper.hot.run)
        for n in range(index_hot.ASKS):
            assert all(not one.keeper.hot._copies for one in others if one.keeper.hot), n
            records, end = await ask(asker, keeper)
            assert (len(records), end.hot) == (1, False)
        near = {one.peer_id for one in await keeper.placer._regions.nodes("raft")}
        around = [one for one in others if one.net.peer_id not in near]
        assert around
        await until(lambda: all(one.keeper.hot and one.keeper.hot._copies for one in around), 10)
        copied, end = await ask(asker, around[0])
        assert (copied, end.hot, end.complete) == (records, True, True)
        clock.now += index_hot.LIFE + 1
        assert await ask(asker, around[0]) == ([], wire.FindEnd(True, {}))
        nursery.cancel_scope.cancel()


async def test_a_copy_and_one_keeper_end_a_search_and_a_false_copy_does_not(tmp_path: Path) -> None:
    clock = Clocked()
    async with nodes(12, tmp_path) as group:
        attend(group, clock)
        a, asker, *_ = group
        item = a.store.items.by_cid(add_file(a.store, "raft talk.mp4"))
        assert item is not None
        await a.placer.post(item)
        _, others = await asker.placer._regions.around("raft")
        by_id = {one.net.peer_id: one for one in group}
        truth = next(one for one in group if one.store.postings.counts(["raft"])).keeper.tell("raft", parse("raft"), 50)
        asker.tier._keeper = None
        asker.dht.size = lambda: 1000.0  # type: ignore[method-assign]
        key = index_hot.question("raft", parse("raft"))

        def copies(records: tuple[Signed, ...]) -> None:
            for one in others:
                hot = by_id[one.peer_id].keeper.hot
                assert hot is not None
                hot._copies[key] = hot_module._Copy(Hot("raft", parse("raft"), 50, records, True), clock.now + 100)

        copies(tuple(truth[0]))
        rows, done = await asker.search("raft")
        assert [one["name"] for one in rows] == ["raft talk.mp4"]
        assert done["nodes"] == 3  # our own catalogue, the copy, one of the eight
        false = item_record.sign(replace(TALK, name="raft spam.mp4"), asker.publisher.private)
        copies((replace(truth[0][0], signature=bytes(64)), false))
        rows, done = await asker.search("raft")
        assert {one["name"] for one in rows} == {"raft talk.mp4", "raft spam.mp4"}
        assert done["nodes"] >= 5


async def test_a_copy_is_taken_only_from_a_storing_node_and_copies_are_bounded(tmp_path: Path) -> None:
    clock = Clocked()
    async with nodes(12, tmp_path) as group:
        attend(group, clock)
        a = group[0]
        keepers = {one.peer_id for one in await a.placer._regions.nodes("raft")}
        record = item_record.sign(TALK, a.publisher.private)
        hot = a.keeper.hot
        assert hot is not None
        inside = next(one for one in group[1:] if one.net.peer_id in keepers)
        outside = next(one for one in group[1:] if one.net.peer_id not in keepers)
        frame = index_hot.encode(Hot("raft", parse("raft"), 50, (record,), True))
        for one, copies in ((outside, 0), (inside, 1)):
            async with open_line(one.net, a.net.peer_id, 5.0) as line:
                await line.push(frame)
            assert len(hot._copies) == copies
        for n in range(index_hot.MAX_COPIES + 5):
            await hot.take(inside.net.peer_id, Hot("raft", parse(f"raft word{n}"), 50, (record,), True))
        assert len(hot._copies) == index_hot.MAX_COPIES


@pytest.mark.parametrize(
    "change",
    [{"records": []}, {"records": [[b"", b"", b""]]}, {"limit": 0}, {"limit": True}, {"complete": 1}, {"term": ""}],
)
def test_a_hot_answer_that_is_none_is_refused(change: dict[str, object]) -> None:
    record = Signed(bytes(32), b"body", bytes(64))
    whole = wire.unpack(index_hot.encode(Hot("raft", parse("raft"), 50, (record,), True))[4:])
    assert index_hot.read(whole) == Hot("raft", parse("raft"), 50, (record,), True)
    with pytest.raises(RemoteProtocolError):
        index_hot.read(whole | change)


def test_a_copy_fits_a_frame() -> None:
    many = [Signed(bytes(32), bytes(416), bytes(64))] * 1000
    kept, everything = index_hot.trimmed(many)
    assert not everything
    assert len(index_hot.encode(Hot("raft", parse("raft"), 1000, kept, False))) <= wire.MAX_FRAME
    assert index_hot.trimmed(many[:3]) == (tuple(many[:3]), True)
