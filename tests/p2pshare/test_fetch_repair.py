"""`verify` as a job: rotten files are named, and made good from whoever has them; edited ones are left alone."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from p2pshare import fetch as verb
from tests.support_content import flip
from tests.support_exchange import Job, World, node


async def test_rot_is_repaired_from_the_network_and_edits_are_kept(tmp_path: Path, nursery: trio.Nursery) -> None:
    rng = random.Random(4)
    world = World(nursery)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        tree = tmp_path / "tree"
        tree.mkdir()
        for n in range(30):
            (tree / f"{n}").write_bytes(rng.randbytes(5000))
        (tree / "big").write_bytes(rng.randbytes(3_000_000))
        cid = await one.share(tree)
        await two.fetch(cid, tmp_path / "out", peer=one.network.addresses())
        [item] = two.store.items.list()
        for name in ("3", "7", "big"):
            flip(tmp_path / "out" / name, rng)
        (tmp_path / "out" / "9").write_bytes(b"edited")
        job = Job()
        done = await verb.verify(two.parts(), [item], job)
        assert {Path(one["path"]).name: one["repaired"] for one in done["damaged"]} == {
            "3": True,
            "7": True,
            "big": True,
            "9": False,
        }
        assert (tmp_path / "out" / "9").read_bytes() == b"edited"
        for name in ("3", "7", "big"):
            assert (tmp_path / "out" / name).read_bytes() == (tree / name).read_bytes()
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(p.name for p in tree.iterdir())
        assert len(two.store.items.list()) == 1
        (tmp_path / "out" / "9").write_bytes((tree / "9").read_bytes())
        assert (await verb.verify(two.parts(), two.store.items.list(), Job()))["damaged"] == []
        assert two.store.items.list()[0].state == "ok"


async def test_a_daemon_that_ends_between_the_rename_and_the_catalogue_finishes_what_is_there(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(nursery)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        (tmp_path / "file").write_bytes(random.Random(4).randbytes(3_000_000))
        cid = await one.share(tmp_path / "file")
        job = Job()
        with monkeypatch.context() as patch, pytest.raises(RuntimeError):
            patch.setattr(verb, "_add_to_catalogue", crash)
            await two.fetch(cid, tmp_path / "out", peer=one.network.addresses(), job=job)
        assert (tmp_path / "out").exists()
        done = await two.fetch(cid, tmp_path / "out", peer=one.network.addresses(), job=job)
        assert done["path"] == str(tmp_path / "out")
        assert [item.path for item in two.store.items.list()] == [str(tmp_path / "out")]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "one", "out", "two"]


async def crash(*_: object) -> None:
    raise RuntimeError("the power is gone")
