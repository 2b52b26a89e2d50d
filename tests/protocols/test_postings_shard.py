"""Shards of a word that is too common for one node: one trie for publishers and askers, and no word in it."""

from __future__ import annotations

from collections import Counter

from p2pshare_protocols import terms
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.postings_shard import agreed, children, next_list, prefix_of, shard, shards_of

CIDS = [CID.of(RAW, b"%d" % n) for n in range(1600)]


def test_the_asker_looks_where_the_publisher_places_and_every_shard_has_its_part() -> None:
    found = Counter(next_list(["talk", "raft"], "raft", cid) for cid in CIDS)
    assert set(found) == set(children("raft"))
    assert max(found.values()) < 1.6 * 100
    for cid in CIDS[:50]:
        first = next_list(["raft"], "raft", cid)
        assert first is not None
        second = next_list(["talk", "raft"], first, cid)
        assert second in children("raft", prefix_of(cid, 1))
        assert next_list(["raft"], shards_of("raft", cid)[-1], cid) is None
        assert next_list(["raft"], "paxos", cid) is None


def test_a_shard_is_no_word() -> None:
    name = shard("raft", "0")
    assert terms.is_term(name)
    assert name not in terms.cut(name)


def test_one_liar_of_three_parts_no_list_and_two_are_enough() -> None:
    assert [agreed(said, 3) for said in range(4)] == [False, False, True, True]
    assert [agreed(1, answered) for answered in (1, 2, 3)] == [True, True, False]
    assert not agreed(0, 0)
    assert agreed(2, 8)
