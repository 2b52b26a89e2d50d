"""Signing in the background: a large share's records come bit by bit, and small ones do not wait for them."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from p2pshare.identity import load_or_create
from p2pshare.index.signing import REST, Signer, breathe
from p2pshare.store import Item, NameRow, Store, open_store
from p2pshare_protocols.cid import CID, RAW
from tests.support_store import draft

FILES = 300


def large(store: Store) -> Item:
    item = store.items.add(draft("photos", kind="directory", files=FILES))
    names = [NameRow(f"{n}.jpg", f"{n}.jpg", CID.of(RAW, b"%d" % n), 1, "file") for n in range(FILES)]
    store.items.add_names(item.id, names)
    return item


def signer(store: Store, tmp_path: Path, begun: list[int]) -> Signer:
    key = load_or_create(tmp_path / "publisher.key")
    return Signer(store, key, files_inside=1000, begun=lambda: begun.append(1), wall_clock=lambda: 1_767_225_600.0)


async def test_a_small_item_is_signed_while_a_large_one_is(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    begun: list[int] = []
    with open_store(tmp_path) as store:
        big, small = large(store), store.items.add(draft("small.txt"))
        signing = signer(store, tmp_path, begun)
        assert signing.is_large(big.id)
        assert not signing.is_large(small.id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signing.publish, big.id)
            await trio.testing.wait_all_tasks_blocked()
            assert begun == [1]
            assert [*signing.under_way] == [big.id]
            await signing.publish(small.id)
            assert store.own_postings.has(small.id)
            assert not store.own_postings.has(big.id)
            await signing.publish(big.id)  # waits for who is at it
            assert store.own_postings.has(big.id)
        assert begun == [1]
        assert not signing.under_way
        assert len(store.own_postings.records_of(big.id, 1000)) == FILES + 1


async def test_work_in_the_background_leaves_most_of_the_time_to_others(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    begin = trio.current_time()
    autojump_clock.jump(0.5)  # what the piece took
    await breathe(begin)
    assert trio.current_time() - begin >= 0.5 * (1 + REST)


async def test_what_is_unshared_meanwhile_is_not_signed(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        item = store.items.add(draft("gone.txt"))
        store.items.remove(item.id)
        await signer(store, tmp_path, []).publish(item.id)
        assert not store.own_postings.has(item.id)
