"""Jobs, events, peers and provider records: what is kept, in what order, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pshare.errors import QuotaExceeded
from p2pshare.store import Event, Events, Store, open_store
from p2pshare.store.jobs import KEPT
from p2pshare.store.peers import Peers
from p2pshare.store.providers import Providers


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with open_store(tmp_path, wall_clock=clock) as opened:
        yield opened


def test_a_job_comes_back_as_it_was_put_and_changed(store: Store, clock: Clock) -> None:
    params = {"path": "/home/\udcff", "tags": ["한", 1, None]}
    job = store.jobs.create("share", params, "name", cid="bafy", priority=3)
    assert (job.state, job.params, job.cid, job.priority, job.total) == ("queued", params, "bafy", 3, None)
    assert (job.created, job.updated, job.result, job.error) == (100.0, 100.0, None, None)
    clock.now = 105.0
    store.jobs.update(job.id, state="failed", error={"kind": "timeout"}, bytes=5, total=9, reason="r")
    failed = store.jobs.get(job.id)
    assert (failed.state, failed.error, failed.bytes, failed.total) == ("failed", {"kind": "timeout"}, 5, 9)
    assert (failed.created, failed.updated, failed.finished) == (100.0, 105.0, True)
    store.jobs.update(job.id, state="queued")
    assert store.jobs.get(job.id).error is None
    assert store.jobs.counts() == {"queued": 1}


def test_jobs_are_listed_by_state_and_cleared_when_finished(store: Store, clock: Clock) -> None:
    ids = [store.jobs.create("fetch", {}).id for _ in range(4)]
    store.jobs.update(ids[1], state="done")
    store.jobs.save_blob(ids[1], b"one")
    clock.now = 200.0
    store.jobs.update(ids[2], state="cancelled")
    assert [job.id for job in store.jobs.list()] == ids
    assert [job.id for job in store.jobs.list(("done", "queued"))] == [ids[0], ids[1], ids[3]]
    assert [job.id for job in store.jobs.list(limit=2)] == ids[2:]
    assert store.jobs.list(()) == []
    assert store.jobs.clear(older_than=150.0) == 1
    assert store.jobs.load_blob(ids[1]) is None
    assert store.jobs.clear() == 1
    assert [job.id for job in store.jobs.list()] == [ids[0], ids[3]]


def test_a_jobs_blob_is_replaced(store: Store) -> None:
    job = store.jobs.create("fetch", {})
    assert store.jobs.load_blob(job.id) is None
    store.jobs.save_blob(job.id, b"a")
    store.jobs.save_blob(job.id, b"\0" * 100_000)
    assert store.jobs.load_blob(job.id) == b"\0" * 100_000
    with pytest.raises(ValueError, match="too big"):
        store.jobs.save_blob(job.id, bytes((64 << 20) + 1))


def test_only_so_many_finished_jobs_are_kept(store: Store) -> None:
    with store.transaction():
        waiting = store.jobs.create("fetch", {}).id
        for _ in range(KEPT + 200):
            store.jobs.update(store.jobs.create("fetch", {}).id, state="done")
    kept = store.jobs.list()
    assert KEPT <= len(kept) <= KEPT + 51
    assert kept[0].id == waiting


def test_events_are_numbered_and_read_by_topic_in_pages(store: Store, clock: Clock) -> None:
    seqs = [store.events.append(topic, {"n": n}).seq for n, topic in enumerate(("jobs", "shares", "jobs", "node"))]
    assert seqs == sorted(set(seqs))
    assert store.events.last_seq == seqs[-1]
    assert [event.body["n"] for event in store.events.since(0)] == [0, 1, 2, 3]
    assert [event.body["n"] for event in store.events.since(seqs[0], ("jobs", "node"))] == [2, 3]
    assert [event.body["n"] for event in store.events.since(0, limit=2)] == [0, 1]
    assert store.events.since(seqs[-1]) == []
    assert store.events.since(0)[0] == Event(seqs[0], 100.0, "jobs", {"n": 0})


def test_listeners_hear_of_an_event_when_it_is_durable_and_never_of_one_undone(store: Store) -> None:
    heard: list[object] = []
    stop = store.events.listen(lambda event: heard.append(event.body["n"]))
    with store.transaction():
        store.events.append("jobs", {"n": 1})
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.events.append("jobs", {"n": 2})
            raise ZeroDivisionError
        assert heard == []
    assert heard == [1]
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.events.append("jobs", {"n": 3})
        raise ZeroDivisionError
    store.events.transient("jobs", {"n": 4})
    stop()
    store.events.append("jobs", {"n": 5})
    assert heard == [1, 4]
    assert [event.body["n"] for event in store.events.since(0)] == [1, 5]


def test_numbers_only_grow_over_a_restart_also_those_of_transient_events(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.events.append("jobs", {})
        last = [store.events.transient("jobs", {}).seq for _ in range(15_000)][-1]
    with open_store(tmp_path) as store:
        assert store.events.last_seq >= last
        assert store.events.append("jobs", {}).seq > last


def test_a_reservation_that_was_undone_is_made_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.events.transient("jobs", {})
            raise ZeroDivisionError
        last = store.events.transient("jobs", {}).seq
    with open_store(tmp_path) as store:
        assert store.events.append("jobs", {}).seq > last


def test_transient_events_write_nothing(store: Store) -> None:
    store.events.transient("jobs", {})
    before = store._db._connection.total_changes
    for _ in range(1000):
        store.events.transient("jobs", {})
    assert store._db._connection.total_changes == before


def test_only_the_newest_events_are_kept(store: Store, clock: Clock) -> None:
    events = Events(store._db, clock, kept=100)
    with store.transaction():
        seqs = [events.append("jobs", {}).seq for _ in range(1000)]
    kept = [event.seq for event in events.since(0)]
    assert 100 <= len(kept) <= 200
    assert kept == seqs[-len(kept) :]


def test_peers_are_bounded_in_number_and_in_addresses(store: Store) -> None:
    peers = Peers(store._db, most=100)
    for number in range(300):
        peers.remember(f"peer{number}", [f"/ip4/1.2.3.4/tcp/{port}" for port in range(1000)], float(number))
    known = peers.known(1000)
    assert known[0] == ("peer299", [f"/ip4/1.2.3.4/tcp/{port}" for port in range(16)], 299.0)
    assert len(known) == 100
    assert store._db.number("SELECT count(*) FROM peers") <= 150
    assert [peer for peer, _, _ in peers.known(2)] == ["peer299", "peer298"]
    peers.remember("peer299", ["x" * 513, "", "/a", "/a", "\ud800"], 500.0)
    assert peers.known(1) == [("peer299", ["/a", "\ufffd"], 500.0)]
    peers.remember("x" * 129, [], 600.0)
    peers.forget("peer299")
    assert peers.known(1)[0][0] == "peer298"


def test_what_a_peer_speaks_is_kept_with_it(store: Store) -> None:
    peers = store.peers
    peers.spoke("a", "/noise", True, 1.0)
    assert peers.spoken() == []  # of nobody who is not remembered
    for peer, seen in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
        peers.remember(peer, ["/x"], seen)
        peers.spoke(peer, "/noise", peer == "a", seen - 1)
    peers.remember("b", ["/y"], 40.0)
    assert peers.spoken() == [("b", "/noise", False, 19.0), ("c", "/noise", False, 29.0), ("a", "/noise", True, 9.0)]
    peers.spoke("b", "", False, 0.0)
    peers.spoke("c", "/" * 129, False, 50.0)
    peers.forget("a")
    assert peers.spoken() == [("c", "/noise", False, 29.0)]
    assert peers.known(1) == [("b", ["/y"], 40.0)]


def test_provider_records_expire_and_are_counted(store: Store) -> None:
    providers = store.providers
    for peer, expires in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
        providers.put(b"key", peer, [f"/{peer}"], expires)
    providers.put(b"other", "a", [], 40.0)
    providers.put(b"key", "a", ["/new"], 15.0)
    assert providers.get(b"key", now=12.0) == [("c", ["/c"], 30.0), ("b", ["/b"], 20.0), ("a", ["/new"], 15.0)]
    assert [peer for peer, _, _ in providers.get(b"key", now=15.0, limit=1)] == ["c"]
    assert [peer for peer, _, _ in providers.get(b"key", now=15.0)] == ["c", "b"]
    assert (providers.count(), providers.count(key=b"key"), providers.count(peer_id="a")) == (4, 3, 2)
    assert providers.expire(20.0) == 2
    assert providers.count() == 2
    providers.remove(b"key", "c")
    assert providers.count() == 1
    providers.put(b"k" * 257, "a", [], 50.0)
    providers.put(b"k", "", [], 50.0)
    assert providers.count() == 1


def test_a_full_store_of_provider_records_takes_renewals_only(store: Store) -> None:
    providers = Providers(store._db, most=2)
    providers.put(b"1", "a", [], 1.0)
    providers.put(b"2", "a", [], 1.0)
    with pytest.raises(QuotaExceeded):
        providers.put(b"3", "a", [], 9.0)
    providers.put(b"1", "a", [], 9.0)
    assert providers.expire(5.0) == 1
    providers.put(b"3", "a", [], 9.0)
    assert providers.count() == 2
