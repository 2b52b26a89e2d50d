"""Postings between real nodes on loopback: placed, found, withdrawn; and what liars and strangers cannot do."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pshare.errors import RemoteError
from p2pshare.index.lines import open_line
from p2pshare.net.api import Stream
from p2pshare.store import Store
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols import item_record, postings_shard
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.index_messages import PROTOCOL
from p2pshare_protocols.item_record import ItemRecord, Signed, Tombstone
from p2pshare_protocols.peerid import peer_id_from_ed25519
from p2pshare_protocols.query import parse
from tests.support_postings import NOW, Clock, Node, nodes
from tests.support_search import add_directory, add_file
from tests.support_until import until

TALK = ItemRecord(CID.of(RAW, b"hello"), "2026-raft.mp4", 1 << 30, "video", 7)


async def shared(node: Node, name: str, **changes: object) -> CID:
    """An item whose words are placed before this returns."""
    cid = add_file(node.store, name, **changes)
    item = node.store.items.by_cid(cid)
    assert item is not None
    with trio.fail_after(10):
        receipt = await node.placer.post(item)
    assert receipt.stored == receipt.asked > 0
    return cid


def lose(store: Store, identity: bytes) -> None:
    """As if the node had dropped one record with its postings."""
    [(number, owner, count)] = store._db.all(
        "SELECT r.id, r.owner, count(*) FROM posting_records r JOIN postings p ON p.record = r.id WHERE r.identity = ?",
        (identity,),
    )
    store._db.execute("DELETE FROM postings WHERE record = ?", (number,))
    store._db.execute("DELETE FROM posting_records WHERE id = ?", (number,))
    store._db.execute("UPDATE posting_owners SET postings = postings - ? WHERE id = ?", (count, owner))
    store.postings.__init__(store._db)  # type: ignore[misc]  # what it had counted in memory is of before


def placed(node: Node) -> bool:
    """Is every word of what it shares where it should be?"""
    return not node.store.own_postings.unpublished(1) and not node.store.own_postings.counts()["waiting"]


def state(node: Node, at: Node, time: float = NOW, digest: bytes = b"") -> wire.Statement:
    return wire.state(node.publisher.private, int(time), node.net.peer_id, at.net.peer_id, digest)


async def ask(node: Node, at: Node, request: wire.Request) -> wire.Answer:
    with trio.fail_after(10):
        async with open_line(node.net, at.net.peer_id, 5.0) as line:
            return await line.ask(request)


async def test_what_one_node_shares_is_found_by_another_through_nodes_that_keep_it(tmp_path: Path) -> None:
    async with nodes(4, tmp_path) as (a, b, c, d):
        cid = await shared(a, "2026-RaftTalk.mp4", tags=("lecture",))
        root = add_directory(a.store, "日本語のノート", ["章/テスト raft.txt"])
        item = a.store.items.by_cid(root)
        assert item is not None
        await a.placer.post(item)
        assert b.store.postings.counts(["lecture"]) == {"lecture": 1}

        rows, done = await d.search("rafttalk lecture", explain=True)
        assert [(row["cid"], row["tier"], row["sources"]) for row in rows] == [(str(cid), "dht", 0)]
        assert rows[0]["publisher"] == peer_id_from_ed25519(a.publisher.public)
        assert "no source is up" in rows[0]["why"]
        assert (done["complete"], done["nodes"]) == (True, 4)
        rows, _ = await d.search("テスト")
        assert [(row["name"], row["link"].split("/")[0].removeprefix("p2pshare:")) for row in rows] == [
            ("テスト raft.txt", str(root))
        ]
        assert (await c.search("raft -lecture type:text"))[0][0]["name"] == "テスト raft.txt"
        assert (await c.search("paxos"))[0] == []


async def test_names_of_every_script_are_found_by_a_part_in_the_network_too(tmp_path: Path) -> None:
    names = {
        "문서": unicodedata.normalize("NFD", "한국어문서.pdf"),  # as macOS writes it
        "テスト": "日本語のテスト.txt",
        "深度学习": "基于深度学习的图像识别.pdf",
        "café": unicodedata.normalize("NFD", "Café.pdf"),
    }
    async with nodes(3, tmp_path) as (a, _, c):
        cids = {words: str(await shared(a, name)) for words, name in names.items()}
        for words, cid in cids.items():
            for typed in (words, unicodedata.normalize("NFD", words)):
                rows, done = await c.search(typed)
                assert [row["cid"] for row in rows] == [cid], typed
                assert done["missing"] == []


async def test_cancelling_a_search_resets_the_streams_at_the_storing_nodes(tmp_path: Path) -> None:
    asked: list[str] = []
    gone = trio.Event()

    async def hanging(stream: Stream) -> None:
        await stream.receive_exactly(5)
        asked.append(stream.peer_id)
        try:
            while await stream.receive_some():
                pass
            await trio.sleep_forever()  # it ended properly: nobody told us to stop
        except trio.BrokenResourceError:
            gone.set()
            raise

    async with nodes(3, tmp_path) as (a, b, c):
        await shared(a, "raft.mp4")
        for node in (a, b):
            node.net.unhandle(PROTOCOL)
            node.net.handle(PROTOCOL, hanging)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(c.search, "raft")
                await until(lambda: len(asked) == 2)
                nursery.cancel_scope.cancel()
            await gone.wait()


async def test_an_item_that_is_unshared_or_hidden_is_not_found(tmp_path: Path) -> None:
    async with nodes(3, tmp_path) as (a, b, c):
        cid = await shared(a, "raft.mp4")
        add_file(a.store, "hidden-raft.mp4", index=False)
        item = a.store.items.by_cid(cid)
        assert item is not None
        a.store.items.remove(item.id)
        a.placer.wake()
        await until(lambda: not b.store.postings.count() and not c.store.postings.count())
        assert (await c.search("raft"))[0] == []
        assert a.store.own_postings.counts() == {"records": 0, "terms": 0, "waiting": 0}
        old = replace(TALK, cid=cid, name="raft.mp4")
        signed = item_record.sign(old, a.publisher.private)
        assert await ask(a, b, wire.Store(state(a, b), (wire.Entry(signed, ("raft",)),))) == wire.Kept(
            (0,), refused=(1,)
        )


async def test_false_signatures_wrong_terms_old_sequences_and_foreign_statements_are_refused(tmp_path: Path) -> None:
    async with nodes(3, tmp_path) as (a, b, c):
        talk = item_record.sign(TALK, a.publisher.private)
        entry = wire.Entry(talk, ("raft",))
        refused = [
            wire.Store(state(a, b), (wire.Entry(talk, ("paxos",)),)),
            wire.Store(state(a, c), (entry,)),
            wire.Store(state(c, b), (entry,)),
            wire.Store(state(a, b, NOW - 4000), (entry,)),
            wire.Store(state(a, b, NOW + 4000), (entry,)),
            wire.Store(replace(state(a, b), signature=bytes(64)), (entry,)),
            wire.Heartbeat(state(c, b, digest=bytes(32))),
            wire.Remove(state(a, b), (Signed(a.publisher.public, talk.body, talk.signature),)),
            wire.Remove(state(a, b), (item_record.sign(Tombstone(TALK.identity, 9), c.publisher.private),)),
        ]
        for request in refused:
            with pytest.raises(RemoteError):
                await ask(a, b, request)
        false = [replace(talk, signature=bytes([n]) * 64) for n in range(100)]
        with pytest.raises(RemoteError):
            await ask(a, b, wire.Store(state(a, b), tuple(wire.Entry(one, ("raft",)) for one in false)))
        assert b.store.postings.count() == 0

        assert await ask(a, b, wire.Store(state(a, b, NOW + 5), (entry,))) == wire.Kept((1,))
        with pytest.raises(RemoteError):
            await ask(a, b, wire.Store(state(a, b, NOW + 4), (entry,)))
        older = item_record.sign(replace(TALK, sequence=6, title="older"), a.publisher.private)
        request = wire.Store(state(a, b, NOW + 5), (wire.Entry(older, ("raft",)),))
        assert await ask(a, b, request) == wire.Kept((0,), refused=(1,))


class LiarsFirst(random.Random):
    """The worst draw that there is."""

    def __init__(self, liars: set[str]) -> None:
        super().__init__(1)
        self._liars = liars

    def shuffle(self, x: Any) -> None:
        x.sort(key=lambda one: one.peer_id not in self._liars)


async def test_nodes_that_lie_show_nothing_invented_and_hide_nothing(tmp_path: Path) -> None:
    """Of 6 nodes three agree on an answer of their own: a false record, one of another word, an older one."""
    async with nodes(8, tmp_path) as group:
        a, asker, *keepers = group
        await shared(a, "raft talk.mp4")
        row = a.store.items.list()[0]
        older = item_record.sign(ItemRecord(row.cid.v1, "raft OLD.mp4", 5, "video", 1, created=1), a.publisher.private)
        lies = (
            replace(item_record.sign(TALK, a.publisher.private), signature=bytes(64)),
            replace(item_record.sign(TALK, a.publisher.private), publisher=bytes(32)),
            item_record.sign(replace(TALK, name="paxos.mp4"), a.publisher.private),
            older,
        )

        async def lie(stream: Stream) -> None:
            await stream.receive_some()
            await stream.send_all(wire.encode(wire.Records(lies)) + wire.encode(wire.FindEnd(True, {"raft": 4})))
            await stream.aclose()

        for liar in keepers[:3]:
            liar.net.handle(PROTOCOL, lie)
        for rng in (LiarsFirst({liar.net.peer_id for liar in keepers[:3]}), random.Random(1)):
            asker.tier._rng, asker.tier._keeper = rng, None  # it keeps none of these itself
            rows, _ = await asker.search("raft")
            assert [one["name"] for one in rows] == ["raft talk.mp4"]


async def test_a_heartbeat_brings_back_what_a_node_lost_and_keeps_it_shown(tmp_path: Path) -> None:
    clock = Clock()
    async with nodes(2, tmp_path, clock) as (a, b):
        await shared(a, "raft.mp4")
        await shared(a, "paxos.mp4")
        before = b.store.postings.count()
        lose(b.store, a.store.own_postings.at(b.net.peer_id)[0][2])
        assert b.store.postings.count() < before
        clock.now += 25 * 3600
        a.placer.wake()
        await until(lambda: b.store.postings.count() >= before)
        clock.now += 47 * 3600
        assert len(b.keeper.look_up("raft", parse("raft"), 10)[0]) == 1
        clock.now += 2 * 3600
        assert b.keeper.look_up("raft", parse("raft"), 10)[0] == []


async def test_a_node_that_was_away_when_something_was_withdrawn_hears_it_later(tmp_path: Path) -> None:
    clock = Clock()
    async with nodes(2, tmp_path, clock) as (a, b):
        cid = await shared(a, "raft.mp4")
        await shared(a, "paxos.mp4")
        item = a.store.items.by_cid(cid)
        assert item is not None
        a.store.items.remove(item.id)
        for record in a.store.own_postings.records_of(item.id, 10):  # told to nobody
            tombstone = item_record.sign(Tombstone(record.identity, record.sequence + 1), a.publisher.private)
            a.store.own_postings.bury(record.id, record.sequence + 1, tombstone)
            for term in ("raft", "mp4", "video"):
                a.store.own_postings.placed(
                    term, [b.net.peer_id], 1e18, a.store.own_postings.under(term, waiting_only=True)
                )
        a.store.own_postings.forget(item.id)
        assert b.store.postings.count() == 6
        clock.now += 25 * 3600
        a.placer.wake()
        await until(lambda: b.store.postings.count() <= 3)
        assert (await b.search("paxos"))[1]["results"] == 1
        assert (await b.search("raft"))[1]["results"] == 0


async def test_a_restart_goes_on_with_what_was_not_placed(tmp_path: Path) -> None:
    async with nodes(1, tmp_path) as (a,):
        a.dht.near = []
        item = a.store.items.by_cid(add_file(a.store, "raft.mp4"))
        assert item is not None
        assert await a.placer.post(item) == (await a.dht.provide(item.cid))
        assert a.store.own_postings.counts()["waiting"] == 3  # raft, mp4, video
    async with nodes(2, tmp_path) as (a, b):
        await until(lambda: not a.store.own_postings.counts()["waiting"], nudge=a.placer.wake)
        assert b.store.postings.count() == 3


async def test_a_node_that_does_not_answer_costs_little_and_the_rest_is_complete(tmp_path: Path) -> None:
    async def silent(stream: Stream) -> None:
        await trio.sleep_forever()

    async with nodes(5, tmp_path) as (a, b, c, _, e):
        cid = await shared(a, "raft.mp4")
        for hung in (b, c):
            hung.net.handle(PROTOCOL, silent)
        begin = trio.current_time()
        rows, _ = await e.search("raft")
        assert [row["cid"] for row in rows] == [str(cid)]
        assert trio.current_time() - begin < 8


async def test_what_a_publisher_has_beyond_250_under_a_word_is_found_in_its_overflow(tmp_path: Path) -> None:
    async with nodes(3, tmp_path) as (a, b, c):
        for number in range(300):
            add_file(a.store, f"raft-{number}.txt")
        a.placer.wake()
        await until(lambda: placed(a), 60)
        assert b.store.postings.counts(["raft"]) == {"raft": 250}
        assert [one.publisher for one in b.store.postings.full("raft")] == [a.publisher.public]
        for number in (10, 150, 299):
            rows, _ = await c.search(f"raft {number}")
            assert [row["name"] for row in rows] == [f"raft-{number}.txt"]
        rows, _ = await c.search("raft", limit=1000)
        assert len(rows) == 300
        talk = item_record.sign(TALK, c.publisher.private)
        theirs = item_record.overflow("raft", a.publisher.public)
        with pytest.raises(RemoteError):
            await ask(c, b, wire.Store(state(c, b), (wire.Entry(talk, (theirs,)),)))


async def test_a_word_that_is_too_common_for_a_node_is_found_in_its_shards(tmp_path: Path) -> None:
    """Lists of 30; 60 items: 30 from before the list was full, which a heartbeat parts, and 30 from after it."""
    clock = Clock()
    async with nodes(4, tmp_path, clock) as (a, b, c, d):
        for one in (a, b, c, d):
            one.store.postings._room = 30
        for number in range(60):
            add_file(a.store, f"raft n{number:02}.txt")
        a.placer.wake()
        await until(lambda: placed(a), 60)
        clock.now += 25 * 3600
        parts = postings_shard.children("raft")
        await until(lambda: sum(b.store.postings.counts(parts).values()) >= 60 and placed(a), 60, nudge=a.placer.wake)
        assert b.store.postings.counts(["raft"]) == {"raft": 30}
        rows, done = await d.search("raft", limit=1000)
        assert (len(rows), done["complete"]) == (60, True)

        talk = item_record.sign(TALK, c.publisher.private)
        right = postings_shard.shards_of("raft", TALK.cid)[0]
        wrong = next(one for one in parts if one != right)
        with pytest.raises(RemoteError):
            await ask(c, b, wire.Store(state(c, b, clock.now), (wire.Entry(talk, (wrong,)),)))
        store = wire.Store(state(c, b, clock.now), (wire.Entry(talk, (right,)),))
        assert await ask(c, b, store) == wire.Kept((1,))
