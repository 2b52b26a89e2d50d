"""Spam on one word in a real store: how much of the room it gets, and how much of what is honest stays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from p2pshare.store import Store, open_store
from p2pshare.store.postings import Owner, Postings
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.item_record import ItemRecord, Signed
from p2pshare_protocols.postings_room import Origin

NOW = 1_767_225_600.0
TALK = ItemRecord(CID.of(RAW, b"hello"), "raft.mp4", 1, "video", 7)
ROOM = 400
HONEST, EACH = 60, 5  # subnets, postings of each


def offer(store: Store, postings: Postings, publisher: int, small: str, large: str, number: int) -> int:
    origin = Origin(publisher.to_bytes(32, "big"), small, large)
    owner: Owner | None = postings.owner(origin, "peer") or store.postings.heard(origin, "peer", 1, NOW)
    assert owner is not None
    record = replace(TALK, cid=CID.of(RAW, b"%d" % number))
    return postings.put(owner, Signed(origin.publisher, b"body", b"s"), record, ["raft"])


def kept(store: Store) -> Counter[str]:
    sql = (
        "SELECT o.large, count(*) FROM postings p JOIN posting_owners o ON o.id = p.owner"
        " WHERE p.term = 'raft' GROUP BY o.large"
    )
    return Counter(dict(store._db.all(sql)))


@pytest.mark.parametrize("spam_first", [True, False])
@pytest.mark.parametrize("hostile", [1, 50])
def test_spam_from_one_subnet_gets_5_percent_and_50_do_not_push_the_honest_out(
    tmp_path: Path, hostile: int, spam_first: bool
) -> None:
    with open_store(tmp_path) as store:
        small = Postings(store._db, room=ROOM)

        def honest() -> None:
            for n in range(HONEST * EACH):
                offer(store, small, n % HONEST, f"h{n % HONEST}", f"honest{n % HONEST}", n)

        def spam() -> None:
            for n in range(2000):
                offer(store, small, 10_000 + n % 1000, f"s{n % hostile}", f"spam{n % hostile}", 10_000 + n)

        for act in (spam, honest) if spam_first else (honest, spam):
            act()
        found = kept(store)
        good = sum(count for large, count in found.items() if large.startswith("honest"))
        assert sum(found.values()) <= ROOM
        # A subnet's quota of a full word is its max-min fair share. Where all honest postings are more than that (300,
        # and room for 218 of them beside 50 hostile subnets) a word that spam filled first keeps 200 of the 300.
        quota = min(EACH, ROOM / (HONEST + hostile))
        assert good >= 0.8 * HONEST * quota
        if hostile == 1:
            assert found["spam0"] == ROOM // 20
            assert good == HONEST * EACH


def test_what_was_proven_is_told_before_spam_of_50_subnets_that_came_first(tmp_path: Path) -> None:
    """The spammers publish contents that they do not hold."""
    with open_store(tmp_path) as store:
        small = Postings(store._db, room=ROOM)
        for n in range(300):
            offer(store, small, 10_000 + n, f"s{n % 50}", f"spam{n % 50}", 10_000 + n)
        for n in range(HONEST):
            offer(store, small, n, f"h{n}", f"honest{n}", n)
        page = [one.signed.publisher for one in small.find("raft", [], NOW, 20)]
        assert sum(int.from_bytes(one, "big") < HONEST for one in page) == 0  # nothing is known of anybody yet
        start = 0
        while (one := small.doubtful(NOW, start, 0.0)) is not None:
            start = one.owner + 1
            publisher = store._db.first("SELECT publisher FROM posting_owners WHERE id = ?", (one.owner,))
            assert publisher is not None
            small.prove(one, NOW if int.from_bytes(publisher[0], "big") < HONEST else 0)
        page = [one.signed.publisher for one in small.find("raft", [], NOW, 20)]
        assert sum(int.from_bytes(one, "big") < HONEST for one in page) == 20
        everything = small.find("raft", [], NOW, 1000)
        assert len(everything) == HONEST + 300
