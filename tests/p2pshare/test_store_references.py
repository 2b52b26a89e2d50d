from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pshare.errors import LocalError, UsageError
from p2pshare.store import Item, Located, Store, open_store
from p2pshare_protocols.query_model import Query
from tests.support_store import draft, raw_cid, source


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def item(store: Store) -> Item:
    return store.items.add(draft())


A, B, C = (raw_cid(text).binary for text in "abc")


def test_a_chunk_is_located_with_what_must_still_be_true_of_its_file(store: Store, item: Item) -> None:
    file = source("/home/me/\udcff.bin", inode=2**64 - 5)
    file_id = store.references.add_many(item.id, file, [(A, 0, 600), (B, 600, 400)])
    assert store.references.locate(B) == [
        Located(file.path, 600, 400, 1000, 2**64 - 5, file.mtime_ns, file_id, item.id, None, "identity")
    ]
    assert store.references.locate(C) == []
    assert (store.blocks.has(A), store.blocks.has(C)) == (True, False)
    assert store.references.chunks_of(file_id) == [(A, 0, 600), (B, 600, 400)]


def test_cids_that_share_their_first_bytes_are_told_apart(store: Store, item: Item) -> None:
    twin = A[:12] + bytes(24)
    store.references.add_many(item.id, source(), [(A, 0, 600)])
    assert store.references.locate(twin) == []
    assert not store.references.has(twin)


def test_a_chunk_in_many_places_gives_some_of_them_and_files_in_order_first(store: Store, item: Item) -> None:
    ids = [
        store.references.add_many(item.id, source(f"/d/{number}"), [(A, 0, 500), (A, 500, 500)]) for number in range(50)
    ]
    store.references.mark_file(ids[0], "missing")
    store.references.set_verified(ids[30], 5.0)
    places = store.references.locate(A)
    assert len(places) == 16
    assert [place.file_id for place in places[:2]] == [ids[30], ids[30]]
    assert ids[0] not in [place.file_id for place in places]


def test_verification_is_kept_and_ends_with_a_change(store: Store, item: Item) -> None:
    file_id = store.references.add_many(item.id, source(), [(A, 0, 1000)])
    store.references.set_verified(file_id, 77.0)
    assert store.references.locate(A)[0].verified == 77.0
    store.references.mark_file(file_id, "changed")
    assert store.references.locate(A)[0].verified is None
    assert store.items.get(item.id).state == "changed"
    assert store.references.known(source().path) is None


def test_an_unchanged_file_is_known_with_its_root(store: Store, item: Item) -> None:
    one = store.references.add_many(item.id, source("/d/one"), [(A, 0, 1000)])
    store.references.add_many(item.id, source("/d/two"), [(A, 0, 600), (B, 600, 400)], root=C)
    store.references.add_many(item.id, source("/d/part"), [(A, 0, 600)])
    found = store.references.known("/d/one")
    assert found is not None
    assert (found[0].id, found[0].size, found[1]) == (one, 1000, A)
    assert (store.references.known("/d/two") or (None, None))[1] == C
    assert store.references.known("/d/part") is None  # its other chunks are not there yet
    assert store.references.known("/d/none") is None


def test_a_file_in_two_items_is_one_row_and_stays_with_the_second(store: Store, item: Item) -> None:
    other = store.items.add(draft("other"))
    file_id = store.references.add_many(item.id, source(), [(A, 0, 1000)])
    assert store.references.add_many(other.id, source(), [(A, 0, 1000)]) == file_id
    assert len(store.references.locate(A)) == 1
    third = store.items.add(draft("third"))
    store.references.attach(third.id, file_id)
    store.items.remove(item.id)
    store.items.remove(other.id)
    assert [place.item_id for place in store.references.locate(A)] == [third.id]


def test_a_changed_file_loses_its_old_chunks_and_its_other_items_know(store: Store, item: Item) -> None:
    other = store.items.add(draft("other"))
    for owner in (item, other):
        store.references.add_many(owner.id, source(), [(A, 0, 1000)])
    store.references.add_many(item.id, source(mtime_ns=5), [(B, 0, 1000)])
    assert store.references.locate(A) == []
    assert store.references.locate(B)[0].mtime_ns == 5
    assert (store.items.get(item.id).state, store.items.get(other.id).state) == ("ok", "changed")


def test_a_file_that_a_fetch_writes_keeps_its_chunks_and_then_its_name_changes(store: Store, item: Item) -> None:
    part = "/d/x.part"
    file_id = store.references.add_many(item.id, source(part, mtime_ns=1), [(A, 0, 500)], growing=True)
    again = store.references.add_many(item.id, source(part, mtime_ns=2), [(B, 500, 500)], growing=True)
    assert again == file_id
    store.references.add_many(item.id, source("/d/x"), [(C, 0, 1000)])  # what was there before
    store.references.set_root(file_id, C)
    store.references.moved(file_id, source("/d/x", mtime_ns=3))
    for cid in (A, B):
        (place,) = store.references.locate(cid)
        assert (place.path, place.mtime_ns, place.file_id) == ("/d/x", 3, file_id)
    assert store.references.locate(C) == []
    assert store.references.known(part) is None
    assert store.references.known("/d/x") is not None


def test_many_files_at_once_are_as_one_by_one(store: Store, item: Item) -> None:
    first = store.references.add_many(item.id, source("/d/0"), [(A, 0, 1000)])
    batch = [(source(f"/d/{n}"), [(raw_cid(str(n)).binary, 0, 1000)], None) for n in range(1, 3000)]
    ids = store.references.add_files(item.id, [(source("/d/0"), [(A, 0, 1000)], None), *batch])
    assert ids[0] == first
    assert len(set(ids)) == 3000
    listed = list(store.references.files_of(item.id))
    assert [file.id for file in listed] == sorted(ids)
    assert store.references.locate(raw_cid("2999").binary)[0].path == "/d/2999"
    with pytest.raises(UsageError):
        store.references.add_files(item.id, [(source("/d/new"), [], None), (source("/d/new"), [], None)])


def test_a_file_id_is_never_given_out_again(store: Store, item: Item) -> None:
    file_id = store.references.add_many(item.id, source(), [(A, 0, 1000)])
    store.items.remove(item.id)
    other = store.items.add(draft())
    assert store.references.add_many(other.id, source(), [(A, 0, 1000)]) > file_id


def test_known_files_below_a_directory_come_with_one_call(store: Store, item: Item) -> None:
    for path in ("/d/a", "/d/e/b", "/d0/c", "/dd", "/d-/x"):
        store.references.add_many(item.id, source(path), [(A, 0, 1000)])
    assert sorted(file.path for file in store.references.under("/d/")) == ["/d/a", "/d/e/b"]


def test_numbers_that_do_not_fit_are_refused(store: Store, item: Item) -> None:
    with pytest.raises(LocalError):
        store.references.add_many(item.id, source(size=2**63), [(A, 0, 1000)])
    assert store.references.locate(A) == []


def test_blocks_without_an_owner_wait_for_one_or_are_swept(store: Store, item: Item) -> None:
    store.blocks.put_many(None, [(A, b"a"), (B, b"bb")])
    store.blocks.put_many(None, [(A, b"a")])
    store.blocks.own(item.id, [A, C])
    assert store.blocks.cids_of(item.id) == [A]
    assert store.blocks.sweep() == 1
    assert (store.blocks.get(A), store.blocks.get(B), store.blocks.size(A)) == (b"a", None, 1)
    stats = store.blocks.stats()
    assert (stats.blocks, stats.bytes, stats.references) == (1, 1, 0)
    store.blocks.remove([A])
    assert store.blocks.get(A) is None
    assert store.blocks.cids_of(item.id) == []


def test_a_worker_thread_reads_over_a_connection_of_its_own(store: Store, item: Item) -> None:
    store.references.add_many(item.id, source(), [(A, 0, 1000)])
    store.blocks.put_many(item.id, [(B, b"b")])
    seen: list[object] = []

    def work() -> None:
        reader = store.reader()
        try:
            seen.append(reader.references.locate(A)[0].path)
            seen.append(reader.blocks.get(B))
            seen.append(reader.search(Query(words=("raft",))).rows[0].item_id)
            with pytest.raises(LocalError):
                reader.blocks.put_many(None, [(C, b"c")])
        finally:
            reader.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["/home/me/raft.mp4", b"b", item.id]


def test_many_chunks_are_located_as_each_of_them_is(store: Store, item: Item) -> None:
    many = [raw_cid(f"chunk {number}").binary for number in range(150)]
    for number, cid in enumerate(many[:140]):
        store.references.add_many(item.id, source(f"/many/{number}"), [(cid, 0, 500), (C, 500, 500)])
    store.references.add_many(item.id, source("/twice"), [(many[70], 0, 500)])  # two places
    twin = many[3][:12] + bytes(24)
    for asked in (many, [*many[:10], C, twin], [*many[:10], *many[:3]], many[:2], []):
        each = {cid: places for cid in asked if (places := store.references.locate(cid))}
        assert store.references.locate_many(asked) == each
    assert len(store.references.locate_many(many)) == 140
