"""`storage.quota`: what belongs to no item has so much room and never more, the least lately used goes first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pshare.errors import QuotaExceeded
from p2pshare.store import Store, open_store
from tests.support_store import draft, raw_cid

KIB = 1024


class Clock:
    now = 2e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with open_store(tmp_path / "home", wall_clock=clock) as store:
        yield store


def block(name: int, size: int = 10 * KIB) -> tuple[bytes, bytes]:
    return raw_cid(str(name)).binary, bytes(size)


def here(store: Store, names: range) -> list[int]:
    return [name for name in names if store.blocks.size(block(name)[0]) is not None]


def test_the_cache_never_has_more_and_drops_what_was_not_used_longest(store: Store) -> None:
    store.quota.limit = 100 * KIB
    for name in range(10):
        store.blocks.put_many(None, [block(name)])
    store.blocks.get(block(0)[0])
    for name in range(10, 13):
        store.blocks.put_many(None, [block(name)])
        assert store.blocks.stats().bytes <= 100 * KIB
    assert here(store, range(13)) == [0, *range(4, 13)]
    store.blocks.put_many(None, [block(name) for name in range(100, 130)])
    assert store.cache.bytes == store.blocks.stats().bytes == 100 * KIB
    store.quota.limit = 30 * KIB
    assert store.blocks.stats().bytes == 30 * KIB


def test_what_an_item_has_is_never_dropped(store: Store) -> None:
    store.quota.limit = 20 * KIB
    item = store.items.add(draft())
    store.blocks.put_many(item.id, [block(name) for name in range(10)])
    store.blocks.put_many(-7, [block(20)])  # of a running fetch
    store.blocks.put_many(None, [block(1), block(30), block(31), block(32)])
    assert here(store, range(10)) == [*range(10)]
    assert here(store, range(20, 33)) == [20, 30]
    store.blocks.own(item.id, [block(30)[0]])
    store.quota.limit = 1
    assert here(store, range(33)) == [*range(10), 20, 30]
    assert (store.cache.bytes, len(store.cache)) == (0, 0)


def test_copies_make_the_cache_give_way_and_have_no_more_than_the_quota(store: Store, tmp_path: Path) -> None:
    store.quota.limit = 100 * KIB
    store.blocks.put_many(None, [block(name) for name in range(10)])
    with store.quota.reserved(60 * KIB):
        assert store.cache.bytes == 40 * KIB
        store.blocks.put_many(None, [block(50)])
        assert store.cache.bytes == 40 * KIB
        with pytest.raises(QuotaExceeded), store.quota.reserved(50 * KIB):
            pass
        path = f"{store.directory}/copies/1/name"
        store.items.add(draft(path=path, size=60 * KIB))
        store.items.add(draft(name="elsewhere", path="/elsewhere", size=10_000 * KIB))
    assert store.quota.copied() == 60 * KIB
    with pytest.raises(QuotaExceeded, match="no room"), store.quota.reserved(41 * KIB):
        pass


def test_without_a_quota_what_nobody_used_for_a_day_goes_by_itself(store: Store, clock: Clock) -> None:
    store.blocks.put_many(None, [block(1), block(2)])
    clock.now += 86_000
    store.blocks.get(block(2)[0])
    store.maintain()
    assert here(store, range(3)) == [1, 2]
    clock.now += 500
    store.maintain()
    assert here(store, range(3)) == [2]


def test_a_put_that_was_undone_counts_for_nothing(store: Store) -> None:
    store.quota.limit = 20 * KIB
    store.blocks.put_many(None, [block(1), block(2)])
    with pytest.raises(RuntimeError), store.transaction():
        store.blocks.put_many(None, [block(3)])
        raise RuntimeError
    assert here(store, range(4)) == [1, 2]
    assert store.cache.bytes == 20 * KIB


def test_a_restart_knows_what_is_cached(tmp_path: Path, clock: Clock) -> None:
    with open_store(tmp_path / "again", wall_clock=clock) as store:
        store.blocks.put_many(None, [block(name) for name in range(5)])
    with open_store(tmp_path / "again", wall_clock=clock) as store:
        assert store.cache.bytes == 50 * KIB
        store.quota.limit = 20 * KIB
        assert here(store, range(5)) == [3, 4]
