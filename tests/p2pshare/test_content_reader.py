"""Blocks read where they lie: verified, and never from a file that changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pshare.content.reader import BlockReader
from p2pshare.errors import LocalError, NotFound, SourceChanged
from p2pshare.store import Item, ItemDraft, SourceFile, Store, open_store
from p2pshare_protocols.cid import CID, RAW

MIB = 1 << 20


class Clock:
    """Wall time that a test moves."""

    def __init__(self) -> None:
        self.now = 2_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with open_store(tmp_path / "home", wall_clock=clock) as store:
        yield store


@pytest.fixture
def reader(store: Store, clock: Clock) -> Iterator[BlockReader]:
    reader = BlockReader(store, wall_clock=clock)
    yield reader
    reader.close()


def put(store: Store, path: Path, data: bytes, mtime_ns: int = 10**18) -> tuple[Item, list[CID]]:
    """Write a file and refer to it, as a publisher does. Its mtime lies well in the past."""
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    status = path.stat()
    pieces = [data[at : at + MIB] for at in range(0, len(data), MIB)] or [b""]
    cids = [CID.of(RAW, piece) for piece in pieces]
    item = store.items.add(ItemDraft(cid=cids[0], name=path.name, size=len(data), path=str(path)))
    chunks = [(cid.binary, i * MIB, len(piece)) for i, (cid, piece) in enumerate(zip(cids, pieces, strict=True))]
    source = SourceFile(str(path), status.st_size, status.st_ino, status.st_mtime_ns)
    store.references.add_many(item.id, source, chunks)
    return item, cids


def overwrite_unseen(path: Path, data: bytes) -> None:
    """New bytes of the same length, and nothing in the file's status tells."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


async def test_small_and_large_chunks_are_read(store: Store, reader: BlockReader, tmp_path: Path) -> None:
    data = os.urandom(2 * MIB + 5)
    _, cids = put(store, tmp_path / "big", data)
    _, small = put(store, tmp_path / "small", b"hello")
    _, empty = put(store, tmp_path / "empty", b"")
    for _ in range(2):
        assert b"".join([await reader.read(cid) for cid in cids]) == data
        assert await reader.read(small[0]) == b"hello"
        assert await reader.read(empty[0]) == b""
    buffer = memoryview(bytearray(len(data) + 5))
    assert await reader.read_into([*cids, *small, *cids], buffer) == [MIB, MIB, 5, 5]
    assert buffer == data + b"hello"
    assert await reader.read_into(cids, buffer[: MIB - 1]) == []


async def test_what_is_not_here(reader: BlockReader) -> None:
    with pytest.raises(NotFound):
        await reader.read(CID.of(RAW, b"nothing"))
    [answer] = await reader.read_into([CID.of(RAW, b"nothing")], memoryview(bytearray(9)))
    assert isinstance(answer, NotFound)


async def test_identity_cids_need_no_store(reader: BlockReader) -> None:
    assert await reader.read(CID.of(RAW, b"tiny", "identity")) == b"tiny"


@pytest.mark.parametrize("size", [100, 500_000])
async def test_a_changed_file_is_not_served(store: Store, reader: BlockReader, tmp_path: Path, size: int) -> None:
    item, [cid] = put(store, tmp_path / "file", b"a" * size)
    assert await reader.read(cid) == b"a" * size
    (tmp_path / "file").write_bytes(b"b" * size)
    with pytest.raises(SourceChanged):
        await reader.read(cid)
    assert store.items.get(item.id).state == "changed"
    [answer] = await reader.read_into([cid, cid], memoryview(bytearray(size)))
    assert isinstance(answer, SourceChanged)


async def test_a_file_replaced_under_an_open_descriptor(store: Store, reader: BlockReader, tmp_path: Path) -> None:
    _, [cid] = put(store, tmp_path / "file", b"old")
    assert await reader.read(cid) == b"old"
    (tmp_path / "new").write_bytes(b"new")
    os.utime(tmp_path / "new", ns=(10**18, 10**18))
    os.replace(tmp_path / "new", tmp_path / "file")
    with pytest.raises(SourceChanged):
        await reader.read(cid)


@pytest.mark.parametrize("what", ["gone", "directory", "fifo"])
async def test_a_file_that_vanished(store: Store, reader: BlockReader, tmp_path: Path, what: str) -> None:
    item, [cid] = put(store, tmp_path / "file", b"here")
    (tmp_path / "file").unlink()
    if what == "directory":
        (tmp_path / "file").mkdir()
    elif what == "fifo":
        os.mkfifo(tmp_path / "file")
    with pytest.raises(NotFound if what == "gone" else SourceChanged):
        await reader.read(cid)
    assert store.items.get(item.id).state == ("missing" if what == "gone" else "changed")


@pytest.mark.parametrize("size", [100, 500_000])
async def test_damage_that_no_status_tells_is_found(
    store: Store, reader: BlockReader, tmp_path: Path, size: int
) -> None:
    _, [cid] = put(store, tmp_path / "file", b"a" * size)
    overwrite_unseen(tmp_path / "file", b"b" * size)
    with pytest.raises(SourceChanged):
        await reader.read(cid)


async def test_a_small_file_is_hashed_each_time_since_that_costs_less_than_asking(
    store: Store, reader: BlockReader, tmp_path: Path
) -> None:
    _, [cid] = put(store, tmp_path / "file", b"a" * 100)
    await reader.read(cid)
    overwrite_unseen(tmp_path / "file", b"b" * 100)
    with pytest.raises(SourceChanged):
        await reader.read(cid)


async def test_a_verification_holds_a_day(store: Store, reader: BlockReader, clock: Clock, tmp_path: Path) -> None:
    size = 500_000
    _, [cid] = put(store, tmp_path / "file", b"a" * size)
    await reader.read(cid)
    overwrite_unseen(tmp_path / "file", b"b" * size)
    clock.now += 86_399
    assert await reader.read(cid) == b"b" * size, "it was hashed again within the day"
    clock.now += 2
    with pytest.raises(SourceChanged):
        await reader.read(cid)


@pytest.mark.parametrize(
    ("stamp", "after", "again"),
    [(10**18, 1.0, True), (10**18, 2.5, False), (10**18 + 1, 0.05, True), (10**18 + 1, 0.2, False)],
)
async def test_a_file_written_just_before_it_was_verified_is_verified_again(
    store: Store, reader: BlockReader, clock: Clock, tmp_path: Path, stamp: int, after: float, again: bool
) -> None:
    size = 300_000  # what is smaller is always compared
    _, [cid] = put(store, tmp_path / "file", b"a" * size, stamp)
    clock.now = 10**9 + after
    await reader.read(cid)
    overwrite_unseen(tmp_path / "file", b"b" * size)
    if again:
        with pytest.raises(SourceChanged):
            await reader.read(cid)
    else:
        assert await reader.read(cid) == b"b" * size


async def test_another_copy_serves_when_one_changed(store: Store, reader: BlockReader, tmp_path: Path) -> None:
    for size in (10, 300_000):
        data = os.urandom(size)
        one, [cid] = put(store, tmp_path / f"one{size}", data)
        put(store, tmp_path / f"two{size}", data)
        overwrite_unseen(tmp_path / f"one{size}", os.urandom(size))
        assert await reader.read(cid) == data
        room = memoryview(bytearray(len(data)))
        assert await reader.read_into([cid], room) == [len(data)]
        assert room == data
        assert store.items.get(one.id).name == f"one{size}"


async def test_stored_blocks_are_verified_too(store: Store, reader: BlockReader) -> None:
    good, bad = CID.of(RAW, b"good"), CID.of(RAW, b"bad")
    store.blocks.put_many(None, [(good.binary, b"good"), (bad.binary, b"rotten")])
    assert await reader.read(good) == b"good"
    with pytest.raises(NotFound):
        await reader.read(bad)
    assert not store.blocks.has(bad.binary)


async def test_descriptors_are_bounded(store: Store, reader: BlockReader, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for i in range(100):
        _, [cid] = put(store, tmp_path / f"f{i}", b"%d" % i)
        await reader.read(cid)
    assert len(os.listdir("/proc/self/fd")) <= before + 65
    reader.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_recheck_tells_what_became_of_an_item(store: Store, reader: BlockReader, tmp_path: Path) -> None:
    item, _ = put(store, tmp_path / "file", b"x")
    assert await reader.recheck(item) == "ok"
    os.utime(tmp_path / "file")
    assert await reader.recheck(item) == "changed"
    assert store.items.get(item.id).state == "changed"
    os.utime(tmp_path / "file", ns=(10**18, 10**18))
    assert await reader.recheck(item) == "ok"
    assert store.items.get(item.id).state == "ok"
    (tmp_path / "file").unlink()
    assert await reader.recheck(item.id) == "missing"


async def test_errors_are_local(store: Store, reader: BlockReader, tmp_path: Path) -> None:
    _, [cid] = put(store, tmp_path / "file", b"x")
    (tmp_path / "file").unlink()
    with pytest.raises(LocalError, match="not there any more"):
        await reader.read(cid)


async def test_rot_stays_known_and_takes_the_trust_in_its_disk_away(
    store: Store, reader: BlockReader, clock: Clock, tmp_path: Path
) -> None:
    size = 500_000
    item, [cid] = put(store, tmp_path / "one", b"a" * size)
    _, [other] = put(store, tmp_path / "two", b"c" * size)
    assert (await reader.read(cid), await reader.read(other)) == (b"a" * size, b"c" * size)
    clock.now += 10
    for name in ("one", "two"):
        overwrite_unseen(tmp_path / name, b"b" * size)
    reader.suspect(cid)  # a fetcher told
    with pytest.raises(SourceChanged, match="nobody wrote"):
        await reader.read(cid)
    with pytest.raises(SourceChanged):  # within its day
        await reader.read(other)
    assert not store.references.is_sound(cid.binary)
    for _ in range(2):
        assert await reader.recheck(item) == "changed"
        assert store.items.get(item.id).state == "changed"
    overwrite_unseen(tmp_path / "one", b"a" * size)
    assert await reader.read(cid) == b"a" * size
    assert [file.state for file in store.references.files_of(item.id)] == ["rotten"]


async def test_what_was_verified_before_rot_was_found_does_not_count_after_a_restart(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    size = 500_000
    _, [cid] = put(store, tmp_path / "one", b"a" * size)
    item, [other] = put(store, tmp_path / "two", b"c" * size)
    [file] = store.references.files_of(item.id)
    store.references.set_verified(file.id, clock.now)
    overwrite_unseen(tmp_path / "one", b"b" * size)
    overwrite_unseen(tmp_path / "two", b"b" * size)
    with closing(BlockReader(store, wall_clock=clock)) as before:
        assert await before.read(other) == b"b" * size, "it was hashed again within the day"
        clock.now += 10
        with pytest.raises(SourceChanged):
            await before.read(cid)
    with closing(BlockReader(store, wall_clock=clock)) as after, pytest.raises(SourceChanged):
        await after.read(other)
