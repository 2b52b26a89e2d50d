"""The verb: tiers answer side by side, results are merged by CID, and no peer can hold a search up or spoil it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from trio.testing import MockClock

from p2pshare.errors import LocalError, UsageError
from p2pshare.index import CatalogueTier, IndexServer, PeerTier
from p2pshare.index.tiers import Answers, Question
from p2pshare.net.api import Stream, StreamHandler
from p2pshare.search import read_query, search
from p2pshare.store import Store, open_store
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.index_messages import Row, encode_end, encode_pages, encode_row
from p2pshare_protocols.link import parse_link
from p2pshare_protocols.query import parse
from tests.support_net import key_pair
from tests.support_search import MemoryNetwork, add_directory, add_file, at_once, collector

ME, ALICE, BOB = (key_pair(n).peer_id for n in (1, 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def network() -> AsyncIterator[MemoryNetwork]:
    async with trio.open_nursery() as nursery:
        yield MemoryNetwork(nursery, ME)
        nursery.cancel_scope.cancel()


def answering(*rows: Row, complete: bool = True) -> StreamHandler:
    """A peer that answers every question with these rows."""

    async def handler(stream: Stream) -> None:
        async with stream:
            while await stream.receive_some():
                pass
            packed = [row for row in map(encode_row, rows) if row is not None]
            for frame in encode_pages(packed)[0]:
                await stream.send_all(frame)
            await stream.send_all(encode_end(complete=complete))

    return handler


async def hanging(stream: Stream) -> None:
    await trio.sleep_forever()


def row(name: str, **changes: Any) -> Row:
    return Row(**{"cid": CID.of(RAW, name.encode()), "name": name, "size": 1000, "type": "video", **changes})


async def found(store: Store, text: str) -> list[str]:
    events, emit = collector()
    done = await search([CatalogueTier(store, ME, run=at_once)], parse(text), emit)
    assert done["results"] == len(events)
    return [event["name"] for event in events]


async def test_the_own_catalogue_is_found_in_every_script(store: Store) -> None:
    names = [
        "한국어문서.pdf",
        "日本語のテスト.txt",
        "基于深度学习的图像识别.pdf",
        "黒猫.jpg",
        "JavaScript.pdf",
        "raft.thesis.2026.pdf",
    ]
    for name in names:
        add_file(store, name)
    cafe = unicodedata.normalize("NFD", "Café.pdf")
    add_file(store, cafe)
    words = ["문서", "テスト", "深度学习", "猫", "script", "thesis", "café"]
    assert [await found(store, word) for word in words] == [[name] for name in [*names, cafe]]
    assert await found(store, unicodedata.normalize("NFD", "한국어")) == ["한국어문서.pdf"]
    assert await found(store, "thesis -2026") == []


async def test_a_result_is_as_the_contract_says(store: Store) -> None:
    cid = add_file(store, "2026-raft.mp4", tags=("lecture",))
    events, emit = collector()
    done = await search([CatalogueTier(store, ME, run=at_once)], parse("raft lecture"), emit, explain=True)
    [event] = events
    parts = event.pop("parts")
    assert parts == {
        "match": pytest.approx(0.6 * 0.695),
        "sources": 0.075,
        "publisher": 0.0,
        "proof": 0.05,
        "publishers": 0.0,
        "fresh": pytest.approx(0.05),
    }
    assert event.pop("score") == pytest.approx(sum(parts.values()))
    assert event == {
        "event": "result",
        "cid": str(cid),
        "link": f"p2pshare:{cid}/2026-raft.mp4",
        "name": "2026-raft.mp4",
        "size": 1000,
        "type": "video",
        "kind": "file",
        "publisher": ME,
        "publishers": 1,
        "sources": 1,
        "tier": "local",
        "why": "1 word in name, 1 word in tags · in your own catalogue",
    }
    assert done.pop("elapsed") >= 0
    assert done == {"event": "done", "results": 1, "nodes": 1, "complete": True, "missing": []}


async def test_a_file_in_a_directory_has_its_own_cid_and_a_link_through_the_root(store: Store) -> None:
    root = add_directory(store, "talks", ["2026/raft 1.mp4", "2026/other.mp4"])
    events, emit = collector()
    await search([CatalogueTier(store, ME, run=at_once)], parse("raft"), emit)
    [event] = events
    assert event["cid"] == str(CID.of(RAW, b"2026/raft 1.mp4"))
    link = parse_link(event["link"])
    assert (link.cid, link.name, link.path) == (root, "talks", ("2026", "raft 1.mp4"))
    assert await found(store, "talks other") == ["other.mp4"]


async def test_what_changed_on_disk_is_not_offered(store: Store) -> None:
    add_file(store, "raft.mp4")
    item = store.items.list()[0]
    store.items.set_state(item.id, "missing")
    assert await found(store, "raft") == []


async def test_peers_are_merged_with_the_own_catalogue_by_cid(store: Store, autojump_clock: MockClock) -> None:
    add_file(store, "raft.mp4")
    async with network() as net:
        net.add_peer(ALICE, answering(row("raft.mp4", publisher=ALICE), row("raft-notes.mp4", publisher=BOB)))
        net.add_peer(BOB, answering(row("raft.mp4"), row("raft-notes.mp4", publisher=BOB)))
        events, emit = collector()
        done = await search([CatalogueTier(store, ME, run=at_once), PeerTier(net.net)], parse("raft"), emit)
    # All came at once: told once, the best first.
    assert [(event["name"], event["sources"], event["tier"]) for event in events] == [
        ("raft.mp4", 3, "local"),
        ("raft-notes.mp4", 2, "peer"),
    ]
    assert (events[1]["publisher"], events[1]["publishers"]) == (BOB, 1)
    assert (done["results"], done["nodes"], done["complete"]) == (2, 3, True)


async def test_a_hung_peer_costs_its_timeout_and_nothing_else(store: Store, autojump_clock: MockClock) -> None:
    async with network() as net:
        net.add_peer("hung", hanging)
        net.add_peer(ALICE, answering(row("raft.mp4")))
        began = trio.current_time()
        times = []

        async def emit(event: dict[str, Any]) -> None:
            times.append(trio.current_time() - began)

        done = await search([CatalogueTier(store, ME, run=at_once), PeerTier(net.net)], parse("raft"), emit, timeout=7)
    assert times == [0.2]
    assert done["elapsed"] == 7
    assert (done["nodes"], done["complete"]) == (2, False)
    assert done["missing"] == ["peer: 1 of 2 peers did not answer"]


async def test_liars_and_strays_are_left_out(store: Store, autojump_clock: MockClock) -> None:
    async def garbage(stream: Stream) -> None:
        await stream.send_all(b"\xff" * 100)

    async def bomb(stream: Stream) -> None:
        await stream.send_all(b"\0\0\x40\0" + b"\x91" * 0x4000)

    async def cut(stream: Stream) -> None:
        body = msgpack.packb({"rows": [{"cid": CID.of(RAW, b"").binary, "name": "raft", "size": 1, "type": "text"}]})
        async with stream:
            await stream.send_all(len(body).to_bytes(4, "big") + body)

    async with network() as net:
        for number, liar in enumerate([garbage, bomb, cut]):
            net.add_peer(f"liar{number}", liar)
        net.add_peer(ALICE, answering(row("something else.mp4"), row("raft.mp4", size=5)))
        events, emit = collector()
        done = await search([PeerTier(net.net)], parse("raft size:<10"), emit)
    # What the third said before its stream broke was allowed, and stays.
    assert sorted((event["name"], event["size"]) for event in events) == [("raft", 1), ("raft.mp4", 5)]
    assert (done["nodes"], done["complete"]) == (1, False)


async def test_no_more_than_32_peers_are_asked_at_once(store: Store, autojump_clock: MockClock) -> None:
    async with network() as net:
        for number in range(40):
            net.add_peer(f"hung{number}", hanging)
        net.add_peer(ALICE, answering(row("raft.mp4")))
        events, emit = collector()
        await search([PeerTier(net.net)], parse("raft"), emit, timeout=10)
        assert net.most_at_once == 32
    assert [event["name"] for event in events] == ["raft.mp4"]


async def test_a_peer_that_does_not_speak_it_is_not_missed(store: Store, autojump_clock: MockClock) -> None:
    async with network() as net:
        net.add_peer("young", hanging, identified=False)
        done = await search([PeerTier(net.net)], parse("raft"), collector()[1])
    assert (done["nodes"], done["complete"], done["elapsed"]) == (0, True, 0)


async def test_the_limit_leaves_room_for_peers_and_ends_the_search(store: Store, autojump_clock: MockClock) -> None:
    for number in range(20):
        add_file(store, f"raft {number}.mp4")
    async with network() as net:
        net.add_peer(ALICE, answering(*(row(f"raft of alice {n}.mp4") for n in range(10))))
        net.add_peer("hung", hanging)
        events, emit = collector()
        done = await search([CatalogueTier(store, ME, run=at_once), PeerTier(net.net)], parse("raft"), emit, limit=10)
        assert Counter(event["tier"] for event in events) == {"local": 5, "peer": 5}
        assert (done["results"], done["elapsed"], done["complete"]) == (10, 1.2, False)
        assert done["missing"] == [
            "local: more matches than were told",
            "peer: 1 of 2 peers did not answer",
            "limit: 20 results were found, 10 are told",
        ]
        few, emit = collector()
        await search([CatalogueTier(store, ME, run=at_once), PeerTier(net.net)], parse("raft -alice"), emit, limit=10)
        assert [event["tier"] for event in few] == ["local"] * 10


async def test_sorted_results_wait_for_each_other(store: Store, autojump_clock: MockClock) -> None:
    add_file(store, "raft b.mp4", size=5)
    async with network() as net:
        net.add_peer(ALICE, answering(row("raft a.mp4", size=9), row("raft b.mp4", size=5)))
        for sort, names in (("size", ["a", "b"]), ("name", ["a", "b"]), ("sources", ["b", "a"])):
            events, emit = collector()
            tiers = [CatalogueTier(store, ME, run=at_once), PeerTier(net.net)]
            await search(tiers, parse("raft"), emit, sort=sort)
            assert [event["name"] for event in events] == [f"raft {name}.mp4" for name in names], sort


async def test_local_asks_nobody_else(store: Store) -> None:
    async with network() as net:
        net.add_peer(ALICE, answering(row("raft.mp4")))
        done = await search(
            [CatalogueTier(store, ME, run=at_once), PeerTier(net.net)], parse("raft"), collector()[1], local=True
        )
        assert (done["results"], done["nodes"], net.most_at_once) == (0, 1, 0)


async def test_an_error_of_ours_and_one_of_the_client_end_the_search_as_they_are(store: Store) -> None:
    class Broken(CatalogueTier):
        async def ask(self, question: Question, answers: Answers) -> None:
            raise LocalError("the catalogue is broken")

    with pytest.raises(LocalError, match="broken"):
        await search([Broken(store, ME)], parse("raft"), collector()[1])
    add_file(store, "raft.mp4")

    async def emit(event: dict[str, Any]) -> None:
        raise trio.BrokenResourceError

    async with network() as net:
        net.add_peer("hung", hanging)
        with pytest.raises(trio.BrokenResourceError):
            await search([CatalogueTier(store, ME, run=at_once), PeerTier(net.net)], parse("raft"), emit)


async def test_a_bad_query_is_a_usage_error() -> None:
    assert read_query("raft", 0.0, type="video", ext=None).type == ("video",)
    with pytest.raises(UsageError, match="empty"):
        read_query(" ", 0.0)


async def test_a_server_answers_only_what_may_be_found(store: Store, autojump_clock: MockClock) -> None:
    shown = add_file(store, "raft shown.mp4")
    add_file(store, "raft hidden.mp4", index=False)
    add_file(store, "raft fetched.mp4", origin="fetched")
    async with network() as net:
        alice = MemoryNetwork(None, ALICE)  # type: ignore[arg-type]
        IndexServer(alice.net, store, run=at_once)
        assert alice.handler is not None
        net.add_peer(ALICE, alice.handler)
        events, emit = collector()
        done = await search([PeerTier(net.net)], parse("raft"), emit)
        assert {event["name"]: event["publisher"] for event in events} == {
            "raft shown.mp4": ALICE,
            "raft fetched.mp4": "",
        }
        assert str(shown) in {event["cid"] for event in events}
        assert done["complete"]


async def test_a_peer_that_asks_too_often_gets_no_answer(store: Store, autojump_clock: MockClock) -> None:
    add_file(store, "raft.mp4")
    async with network() as net:
        alice = MemoryNetwork(None, ALICE)  # type: ignore[arg-type]
        IndexServer(alice.net, store, run=at_once)
        assert alice.handler is not None
        net.add_peer(ALICE, alice.handler)

        async def ask() -> tuple[int, bool]:
            done = await search([PeerTier(net.net)], parse("raft"), collector()[1])
            return done["results"], done["complete"]

        assert [await ask() for _ in range(21)] == [(1, True)] * 20 + [(0, False)]
        await trio.sleep(0.5)
        assert await ask() == (1, True)


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\x10\x01", b"\0\0\0\x01\xc1", b"\0\0\0\x02\x81\xa1"])
async def test_a_question_that_is_none_gets_a_reset(store: Store, autojump_clock: MockClock, sent: bytes) -> None:
    async with network() as net:
        alice = MemoryNetwork(None, ALICE)  # type: ignore[arg-type]
        IndexServer(alice.net, store, run=at_once)
        assert alice.handler is not None
        net.add_peer(ALICE, alice.handler)
        stream = await net.net.open_stream(ALICE, ["/p2pshare/index/1.0.0"])
        await stream.send_all(sent)
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pytest.fail("an answer to nothing")
            raise trio.BrokenResourceError
        assert trio.current_time() <= 10.1
