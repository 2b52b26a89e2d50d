"""What has no room in a full list goes to its shard at once and is not offered every day; and how often it is swept."""

from __future__ import annotations

from pathlib import Path

from p2pshare.index import Placer
from p2pshare_protocols import postings_shard
from p2pshare_protocols.postings_place import LONG, SHORT, Life
from p2pshare_protocols.query import parse
from tests.support_postings import NOW, Clock, Node, nodes
from tests.support_search import add_file
from tests.support_until import until


async def settled(node: Node) -> None:
    own = node.store.own_postings
    await until(lambda: not own.unpublished(1) and not own.counts()["waiting"], 30, nudge=node.placer.wake)


def states(node: Node, term: str) -> dict[int, int]:
    """Of our postings under a term: how many are in which state."""
    sql = "SELECT placed, count(*) FROM own_postings WHERE term = ? GROUP BY placed"
    return dict(node.store._db.all(sql, (term,)))


async def test_what_is_refused_stands_in_a_shard_and_waits_until_there_is_room_again(tmp_path: Path) -> None:
    clock = Clock()
    async with nodes(3, tmp_path, clock) as (a, b, c):
        for one in (b, c):
            one.store.postings._room = 5
        for number in range(8):
            add_file(a.store, f"raft n{number}.txt")
        await settled(a)
        assert states(a, "raft") == {1: 5, 2: 3}
        assert b.store.postings.counts(["raft"]) == {"raft": 5}
        stands = sum(b.store.postings.counts(postings_shard.children("raft")).values())
        assert stands >= 3
        # A restart knows what is full.
        again = Placer(a.store, a.net, a.dht, a.publisher, a.placer._regions, files_inside=10, wall_clock=clock)
        assert again._full["raft"] == {b.net.peer_id, c.net.peer_id}
        # A day later nothing that was refused is offered but one; then there is room, and all of it is.
        for one in (b, c):
            one.store.postings.__init__(one.store._db, room=20)  # type: ignore[misc]
        clock.now += 25 * 3600
        await until(lambda: states(a, "raft") == {1: 8}, 30, nudge=a.placer.wake)
        assert len(b.keeper.look_up("raft", parse("raft"), 100)[0]) == 8
        assert "raft" not in a.placer._full


async def test_what_is_refused_is_not_sent_with_each_heartbeat(tmp_path: Path) -> None:
    clock = Clock()
    async with nodes(2, tmp_path, clock) as (a, b):
        b.store.postings._room = 2
        for number in range(4):
            add_file(a.store, f"raft n{number}.txt")
        await settled(a)
        mine = a.store.own_postings.at(b.net.peer_id)
        assert sum(term == "raft" for term, *_ in mine) == 2
        there = b.store._db.all("SELECT p.term, r.identity FROM postings p JOIN posting_records r ON r.id = p.record")
        assert sorted(there) == sorted((term, identity) for term, _, identity, _ in mine)


def test_servers_that_go_within_a_day_are_swept_twice_as_often() -> None:
    life = Life()
    assert life.after == LONG
    life.found(8, 0)
    assert life.after == LONG  # one region is no measure
    for _ in range(20):
        life.found(8, 4)
    assert life.after == SHORT
    assert Life(life.after).after == SHORT
    for _ in range(40):
        life.found(8, 7)
    assert life.after == LONG


async def test_a_sweep_sees_how_many_of_its_servers_are_gone_and_remembers_it(tmp_path: Path) -> None:
    clock = Clock(NOW)
    async with nodes(1, tmp_path, clock) as (a,):
        before = tuple(f"peer{n}" for n in range(8))
        for _ in range(10):
            a.placer._see_life(["peer0", *(f"new{n}" for n in range(7))], before)
        again = Placer(a.store, a.net, a.dht, a.publisher, a.placer._regions, files_inside=10, wall_clock=clock)
        assert again._life.after == SHORT
