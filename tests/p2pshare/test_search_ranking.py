"""What stands above what, what is one row, and what a search leaves behind when it is cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pshare.index import IndexServer
from p2pshare.index.merge import Event, Merge
from p2pshare.index.people import People
from p2pshare.index.tiers import Answers, Hit, PeerTier, Question, TierName
from p2pshare.net.api import Stream
from p2pshare.search import search
from p2pshare.store import open_store
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.index_messages import PROTOCOL, Row
from p2pshare_protocols.query import parse
from tests.support_net import identified, key_pair, network
from tests.support_search import add_file, collector

NOW = 1_790_000_000.0
ALICE, BOB, CAROL = (key_pair(n).peer_id for n in (2, 3, 4))


def row(name: str, content: str = "", **changes: Any) -> Row:
    cid = CID.of(RAW, (content or name).encode())
    return Row(**{"cid": cid, "name": name, "size": 1000, "type": "video", "created": NOW, **changes})


def merged(*hits: Hit, query: str = "raft", people: People | None = None, limit: int = 50) -> list[Event]:
    """What is told, as a client has it in the end: the last event of each result, the best first."""
    merge = Merge(parse(query), limit, shared=True, explain=True, now=NOW, people=people)
    events = [event for hit in hits if (event := merge.add(hit, 0.01))]
    assert events == []
    told = {event["cid"]: event for event in merge.show() + merge.show(end=True)}
    return sorted(told.values(), key=lambda event: -event["score"])


def names(events: Sequence[Event]) -> list[str]:
    return [event["name"] for event in events]


def hit(one: Row, holder: str = "", subnet: str = "", tier: TierName = "dht") -> Hit:
    return Hit(one, holder, tier, subnet)


def test_a_live_source_a_publisher_one_knows_and_independent_publishers_make_better(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        people = People(store, mine=[ALICE], trusted=[BOB])
        events = merged(
            hit(row("raft dead.mp4")),
            hit(row("raft live.mp4"), "x"),
            hit(row("raft mine.mp4", publisher=ALICE), "x"),
            hit(row("raft stranger.mp4", publisher=CAROL), "x"),
            hit(row("raft old.mp4", created=NOW - 2e8), "x"),
            hit(row("something.mp4", tags=("raft",)), "x"),
            people=people,
        )
        assert names(events)[0] == "raft mine.mp4"
        assert names(events)[-3:] == ["raft old.mp4", "raft dead.mp4", "something.mp4"]
        assert "no source is up" in events[-2]["why"]
        [trusted] = merged(hit(row("raft.mp4", publisher=BOB), "x"), people=people)
        assert "publisher trusted" in trusted["why"]
        assert trusted["parts"]["publisher"] == 0.1
        assert sum(trusted["parts"].values()) == pytest.approx(trusted["score"])


def test_only_a_fetch_makes_a_publisher_known_and_that_is_remembered(tmp_path: Path) -> None:
    one = row("raft.mp4", publisher=CAROL)
    with open_store(tmp_path) as store:
        people = People(store)
        people.fetched(str(one.cid.v1))
        assert people.stand(CAROL) == ""
        merged(hit(one), people=people)
        assert people.stand(CAROL) == ""
        people.fetched(str(one.cid.v1))
        assert people.stand(CAROL) == "known"
        assert (people.stand(""), people.stand(BOB)) == ("", "")
    with open_store(tmp_path) as store:
        assert People(store).stand(CAROL) == "known"


def test_one_subnet_has_two_rows_before_everybody_else(tmp_path: Path) -> None:
    spam = [
        hit(row(f"raft {n}.mp4", publisher=key_pair(10 + n).peer_id), f"spam{n}", "198.51.100.0/24") for n in range(30)
    ]
    honest = [hit(row(f"all about raft of one year {n}.mp4"), f"honest{n}", f"203.0.{n}.0/24") for n in range(18)]
    page = merged(*spam, *honest)[:20]
    assert sum(name.startswith("all about") for name in names(page)) == 18
    assert all("crowded" not in event["parts"] for event in page)
    with open_store(tmp_path) as store:  # whom somebody vouches for is not crowded out
        people = People(store, trusted=[key_pair(10 + n).peer_id for n in range(30)])
        assert sum(name.startswith("all about") for name in names(merged(*spam, *honest, people=people)[:20])) == 0


def test_what_one_subnet_alone_has_is_told_all_the_same() -> None:
    rows = [hit(row(f"raft {n}.mp4"), f"peer{n}", "198.51.100.0/24") for n in range(30)]
    events = merged(*rows)
    assert len(events) == 30
    assert sum("crowded" in event["parts"] for event in events) == 28
    assert all(event["parts"]["crowded"] < 0 for event in events[2:])


def test_a_thousand_identities_of_one_subnet_are_one_publisher() -> None:
    many = [row("raft.mp4", publisher=key_pair(n).peer_id) for n in range(20, 60)]
    [event] = merged(*(hit(one) for one in many))
    assert event["publishers"] == 40
    assert event["parts"]["publishers"] == 0
    near = [hit(one, one.publisher, "198.51.100.0/24") for one in many[:2]]
    [event] = merged(*near)
    assert (event["publishers"], event["sources"], event["parts"]["publishers"]) == (2, 2, 0)
    [event] = merged(near[0], hit(many[1], many[1].publisher, "203.0.113.0/24"))
    assert event["parts"]["publishers"] == 0.025
    assert "2 independent publishers" in event["why"]


def test_a_node_and_its_publishers_key_are_one_publisher_and_the_key_is_shown() -> None:
    signed = hit(row("raft.mp4", publisher=ALICE))
    claimed = hit(row("raft.mp4", publisher=BOB), BOB, "203.0.113.0/24", "peer")
    for order in ((signed, claimed), (claimed, signed)):
        [event] = merged(*order)
        assert (event["publisher"], event["publishers"], event["parts"]["publishers"]) == (ALICE, 1, 0)


def test_the_same_content_under_other_names_is_one_row_that_tells_them() -> None:
    [event] = merged(
        hit(row("raft.mp4", "same"), "a"), hit(row("raft talk.mp4", "same"), "b"), hit(row("raft.mp4", "same"), "c")
    )
    assert (event["name"], event["sources"]) == ("raft.mp4", 3)
    assert names(event["also"]) == ["raft talk.mp4"]
    assert "bundle" not in event


def test_versions_of_a_name_stand_in_one_bundle_and_leave_room() -> None:
    versions = [hit(row(f"raft-v{n}.pdf"), "a") for n in range(1, 7)]
    other = hit(row("notes on raft and others.pdf"), "a")
    events = merged(*versions, other)
    assert names(events).index("notes on raft and others.pdf") == 3
    bundled = [event for event in events if "bundle" in event]
    assert {event["bundle"] for event in bundled} == {"raft.pdf"}
    assert [len(event["also"]) for event in bundled] == [5] * 6
    assert len(bundled) == 6  # none is hidden


def test_nobody_elses_order_counts() -> None:
    rows = [hit(row(f"raft{' and more' * n}.mp4"), "a") for n in range(5)]
    assert names(merged(*rows)) == names(merged(*reversed(rows)))


def test_a_flood_is_bounded() -> None:
    merge = Merge(parse("raft"), 50, shared=True, explain=False, now=NOW)
    for number in range(6000):
        merge.add(hit(row(f"raft {number}.mp4"), "a"), 0)
    assert (merge.found, merge.left_out) == (5000, True)


async def test_results_that_come_later_are_told_later_and_what_is_new_is_an_update(autojump_clock: MockClock) -> None:
    class Slow:
        name: TierName = "dht"

        async def ask(self, question: Question, answers: Answers) -> None:
            answers.asked = 3
            await answers.tell(row("a raft of others.mp4"), "")
            await answers.tell(row("raft.mp4"), "")
            await trio.sleep(1)
            await answers.tell(row("a raft of others.mp4"), "x", ["/ip4/198.51.100.7/tcp/4001"])
            answers.nodes = 2
            answers.complete = False

    seen = []

    async def emit(event: Event) -> None:
        seen.append((trio.current_time() - begin, event["name"], event["sources"], event.get("update", False)))

    begin = trio.current_time()
    done = await search([Slow()], parse("raft"), emit, now=NOW)
    assert seen == [
        (0.2, "raft.mp4", 0, False),
        (0.2, "a raft of others.mp4", 0, False),
        (1, "a raft of others.mp4", 1, True),
    ]
    assert (done["complete"], done["missing"]) == (False, ["dht: 1 of 3 nodes did not answer"])


async def test_who_has_it_is_known_before_it_is_shown_where_that_is_quick(autojump_clock: MockClock) -> None:
    class Probed:
        name: TierName = "dht"

        async def ask(self, question: Question, answers: Answers) -> None:
            await answers.tell(row("raft.mp4"), "")
            await trio.sleep(0.1)
            await answers.tell(row("raft.mp4"), "x")
            await trio.sleep(5)
            await answers.tell(row("raft late.mp4"), "")
            await trio.sleep(0.04)
            await answers.tell(row("raft late.mp4"), "y")
            await trio.sleep(1)

    events, emit = collector()
    await search([Probed()], parse("raft"), emit, now=NOW)
    assert [(event["sources"], event.get("update")) for event in events] == [(1, None), (1, None)]


async def test_cancelling_a_search_resets_its_streams_at_the_peers(tmp_path: Path) -> None:
    asked, gone = trio.Event(), trio.Event()

    async def hanging(stream: Stream) -> None:
        while await stream.receive_some():
            pass
        asked.set()
        try:
            while True:
                await stream.send_all(b"")
                await stream.wait_send_all_might_not_block()
                await trio.lowlevel.checkpoint()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            gone.set()
            raise

    with open_store(tmp_path) as store:
        async with network(1) as me, network(2) as two, network(3) as three:
            IndexServer(three, store)
            add_file(store, "raft.mp4")
            two.handle(PROTOCOL, hanging)
            for other in (two, three):
                await identified(me, await me.connect(other.addresses()[0]))
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(search, [PeerTier(me)], parse("raft"), collector()[1])
                    await asked.wait()
                    nursery.cancel_scope.cancel()
                await gone.wait()
                # The connection lives, and the next search finds.
                events, emit = collector()
                await search([PeerTier(me)], parse("raft"), emit, timeout=1)
            assert names(events) == ["raft.mp4"]
