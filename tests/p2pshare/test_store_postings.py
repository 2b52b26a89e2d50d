"""Postings kept for others, and our own: room, replacing, tombstones, hiding, what is left to do after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.store import Store, open_store
from p2pshare.store.own_postings import Draft
from p2pshare.store.postings import DELETED, HIDDEN, Owner, Postings
from p2pshare_protocols import item_record
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.item_record import ItemRecord, Signed, Tombstone
from p2pshare_protocols.postings_room import Origin
from tests.support_store import draft

NOW = 1_767_225_600.0
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TALK = ItemRecord(CID.of(RAW, b"hello"), "2026-raft.mp4", 1 << 30, "video", 7)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        yield opened


def owner_of(store: Store, key: Ed25519PrivateKey = KEY, small: str = "") -> Owner:
    origin = Origin(key.public_key().public_bytes_raw(), small, small and "large")
    found = store.postings.heard(origin, "peer", 1, NOW)
    assert found is not None
    return found


def put(store: Store, owner: Owner, record: ItemRecord, *terms: str, postings: Postings | None = None) -> int:
    return (postings or store.postings).put(owner, Signed(owner.origin.publisher, b"body", b"s"), record, terms)


def named(number: int) -> ItemRecord:
    return replace(TALK, cid=CID.of(RAW, b"%d" % number), name=f"{number}.raft")


def test_records_are_found_by_a_term_and_the_other_words_while_their_publisher_lives(store: Store) -> None:
    owner = owner_of(store)
    signed = item_record.sign(TALK, KEY)
    assert store.postings.put(owner, signed, TALK, ["raft", "2026"]) == 2
    assert store.postings.find("raft", ["mp4"], NOW, 10) == [(signed, 0)]
    assert store.postings.find("raft", ["paxos"], NOW, 10) == []
    assert store.postings.find("mp4", [], NOW, 10) == []
    assert store.postings.counts(["raft", "paxos"]) == {"raft": 1}
    assert store.postings.find("raft", [], NOW + HIDDEN + 1, 10) == []
    store.postings.heard(owner.origin, "peer", 2, NOW + HIDDEN)
    assert store.postings.find("raft", [], NOW + HIDDEN + 1, 10) == [(signed, 0)]


def test_a_newer_sequence_replaces_an_older_one_is_refused_and_a_tombstone_ends_it(store: Store) -> None:
    owner = owner_of(store)
    newer = replace(TALK, sequence=8, title="new")
    assert put(store, owner, TALK, "raft", "old") == 2
    assert put(store, owner, newer, "raft", "new") == 2
    assert store.postings.counts(["raft", "old", "new"]) == {"raft": 1, "new": 1}
    assert put(store, owner, TALK, "raft") == 0
    tomb = item_record.sign(Tombstone(TALK.identity, 9), KEY)
    assert store.postings.bury(owner, tomb, TALK.identity, 8) == 0
    assert store.postings.bury(owner, tomb, TALK.identity, 9) == 2
    assert put(store, owner, newer, "raft") == 0
    assert put(store, owner, replace(TALK, sequence=9), "raft") == 0
    assert store.postings.find("raft", [], NOW, 10) == []
    assert store.postings.count() == 0
    assert put(store, owner, replace(TALK, sequence=10), "raft") == 1


def test_a_term_has_room_for_250_of_a_publisher_and_that_survives_reopening(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert sum(put(store, owner_of(store), named(n), "raft") for n in range(200)) == 200
    with open_store(tmp_path) as store:
        assert sum(put(store, owner_of(store), named(200 + n), "raft", f"w{n}") for n in range(100)) == 150
        assert store.postings.counts(["raft"]) == {"raft": 250}


def test_a_full_term_drops_the_newest_of_the_largest_subnet(store: Store) -> None:
    small = Postings(store._db, room=40)
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(24)]
    crowd = [owner_of(store, key, f"net{n}") for n, key in enumerate(keys[:20])]
    for n, owner in enumerate(crowd):
        own_large = owner._replace(origin=owner.origin._replace(large=f"l{n}"))
        for number in (2 * n, 2 * n + 1):
            put(store, own_large, named(number), "raft", postings=small)
    assert small.count() == 40
    fresh = owner_of(store, keys[21], "net21")
    assert put(store, fresh._replace(origin=fresh.origin._replace(large="l21")), named(99), "raft", postings=small) == 1
    assert small.count() == 40
    assert small.counts(["raft"]) == {"raft": 40}


def test_a_full_term_spares_what_was_proven_even_when_it_is_newer(store: Store) -> None:
    small = Postings(store._db, room=4)
    owner, other = owner_of(store), owner_of(store, Ed25519PrivateKey.from_private_bytes(b"2" * 32))
    for number in range(4):
        put(store, owner, named(number), "raft", postings=small)
    newest = small.doubtful(NOW, 0, 3 / 4)
    assert newest is not None
    small.prove(newest, NOW)
    assert put(store, other, named(9), "raft", postings=small) == 1
    kept = [one.proven for one in small.find("raft", [], NOW, 10) if one.signed.publisher == owner.origin.publisher]
    assert kept == [0, 0, int(NOW)]
    assert put(store, owner, replace(named(3), sequence=8, title="new"), "raft", postings=small) == 1
    assert sorted(one.proven for one in small.find("raft", [], NOW, 10))[-1] == int(NOW)


def test_publishers_that_are_gone_for_14_days_are_deleted_piece_by_piece(store: Store) -> None:
    owner = owner_of(store)
    for number in range(300):
        put(store, owner, named(number), f"w{number}")
    assert store.postings.expire(NOW + DELETED - 1) == 0
    steps = 0
    while store.postings.expire(NOW + DELETED):
        steps += 1
    assert steps > 1
    assert store.postings.count() == 0
    assert store.postings.owner(owner.origin, "peer") is None


def test_subnets_take_turns_in_an_answer(store: Store) -> None:
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2)]
    loud, quiet = owner_of(store, keys[0], "loud"), owner_of(store, keys[1], "quiet")
    for number in range(50):
        put(store, loud, named(number), "raft")
    put(store, quiet, named(99), "raft")
    found = store.postings.find("raft", [], NOW, 2)
    assert {one.signed.publisher for one in found} == {loud.origin.publisher, quiet.origin.publisher}


def _publish(store: Store, item: int, cid: CID, *terms: str) -> None:
    record = replace(TALK, cid=cid)
    signed = item_record.sign(record, KEY)
    store.own_postings.add(item, [Draft(record.identity, 7, signed, [(term, term.encode()) for term in terms])])
    store.own_postings.added(item, cid.v1.binary)


def test_what_is_left_to_publish_place_and_withdraw_is_told_by_the_store(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        item = store.items.add(draft("raft.mp4"))
        store.items.add(draft("hidden.mp4", index=False))
        assert store.own_postings.unpublished() == [item.id]
        _publish(store, item.id, item.cid, "raft", "mp4")
    with open_store(tmp_path) as store:
        own = store.own_postings
        assert own.unpublished() == []
        assert own.waiting(10) == ["mp4", "raft"]
        assert own.placed_of(item.id) == (0, 2)
        own.placed("raft", ["n1", "n2"], NOW + 100, own.under("raft", waiting_only=True))
        assert own.waiting(10) == ["mp4"]
        assert own.placed_of(item.id) == (1, 2)
        assert [one[0] for one in own.at("n1")] == ["raft"]
        assert own.due(NOW + 99, 10) == []
        assert own.due(NOW + 100, 10) == ["raft"]

        store.items.remove(item.id)
        assert own.withdrawn() == [item.id]
        [record] = own.records_of(item.id, 10)
        own.bury(record.id, 8, item_record.sign(Tombstone(record.identity, 8), KEY))
        own.forget(item.id)
        assert own.withdrawn() == []
        [tombstone] = own.under("raft", waiting_only=True)
        assert tombstone.removed
        own.placed("raft", ["n1"], NOW, [tombstone])
        own.placed("mp4", ["n1"], NOW, own.under("mp4", waiting_only=True))
        assert own.counts() == {"records": 0, "terms": 0, "waiting": 0}


def test_more_than_a_publisher_may_have_under_a_term_does_not_wait_for_ever(store: Store) -> None:
    drafts = []
    for number in range(260):
        record = named(number)
        drafts.append(Draft(record.identity, 7, Signed(b"", b"", b""), [("raft", b"p")]))
    store.own_postings.add(1, drafts)
    mine = store.own_postings.under("raft", waiting_only=True)
    assert len(mine) == 250
    store.own_postings.placed("raft", ["n1"], NOW, mine)
    assert store.own_postings.waiting(10) == []
