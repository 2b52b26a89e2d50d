"""Reading again what is shared: every flipped bit is found, whatever the file's time stamp says, and named."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pshare.content.reader import BlockReader
from p2pshare.content.verify import Verifier
from p2pshare.publish import ShareOptions, share
from p2pshare.store import Item, Store, open_store
from tests.support_content import flip
from tests.support_exchange import Job

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "home").mkdir()
    with open_store(tmp_path / "home") as store:
        yield store


async def shared(store: Store, path: Path) -> Item:
    await share(store=store, options=ShareOptions(paths=(str(path),)), job=Job(), announce=None)
    return store.items.list()[0]


async def test_a_hundred_flipped_bits_are_a_hundred_named_files(store: Store, tmp_path: Path) -> None:
    rng = random.Random(9)
    tree = tmp_path / "tree"
    tree.mkdir()
    for n in range(300):
        (tree / f"{n:03}").write_bytes(rng.randbytes(rng.randint(1, 9000)))
    (tree / "big").write_bytes(rng.randbytes(3 * MIB + 5))
    item = await shared(store, tree)
    assert await Verifier(store).run(item) == []
    victims = [tree / f"{n:03}" for n in rng.sample(range(300), 99)] + [tree / "big"]
    places = {str(path): flip(path, rng) for path in victims}
    seen: list[tuple[int, int]] = []
    damaged = await Verifier(store, lambda done, total: seen.append((done, total))).run(store.items.get(item.id))
    assert {damage.path for damage in damaged} == set(places)
    for damage in damaged:
        [(_, offset, length)] = damage.chunks
        assert offset <= places[damage.path] < offset + length
    assert seen[-1] == (item.size, item.size)
    assert store.items.get(item.id).state == "changed"


async def test_gone_shorter_and_longer_files_are_damaged_and_touched_ones_are_not(store: Store, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("gone", "shorter", "longer", "touched", "same"):
        (tree / name).write_bytes(name.encode() * 100)
    item = await shared(store, tree)
    (tree / "gone").unlink()
    os.truncate(tree / "shorter", 10)
    with (tree / "longer").open("ab") as file:
        file.write(b"more")
    os.utime(tree / "touched", ns=(10**18, 10**18))
    damaged = {Path(damage.path).name: damage for damage in await Verifier(store).run(item)}
    assert set(damaged) == {"gone", "shorter", "longer"}
    assert "bytes" in damaged["longer"].reason
    known = {Path(file.path).name: file for file in store.references.files_of(item.id)}
    assert (known["touched"].state, known["touched"].mtime_ns) == ("ok", 10**18)
    assert known["gone"].state == "missing"


async def test_a_file_that_was_put_right_is_shared_again(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"right")
    item = await shared(store, file)
    file.write_bytes(b"wrong")
    assert len(await Verifier(store).run(item)) == 1
    file.write_bytes(b"right")
    assert await Verifier(store).run(store.items.get(item.id)) == []
    assert store.items.get(item.id).state == "ok"


async def test_a_rotten_file_is_not_ok_by_its_status_and_shared_again_it_is(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"right" * 100)
    item = await shared(store, file)
    flip(file, random.Random(1))
    [damage] = await Verifier(store).run(item)
    assert damage.rot
    with closing(BlockReader(store)) as reader:
        assert await reader.recheck(item.id) == "changed"
        await share(store=store, options=ShareOptions(paths=(str(file),)), job=Job(), announce=None)
        again = store.items.list()[-1]
        assert again.id != item.id
        assert (await reader.recheck(again), store.references.known(str(file)) is not None) == ("ok", True)
