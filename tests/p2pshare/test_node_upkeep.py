"""What a crash left goes at the next start: rows of jobs that are over, copies that belong to nothing."""

from __future__ import annotations

from pathlib import Path

from p2pshare.node.upkeep import tidy
from p2pshare.publish import MAX_PATHS
from p2pshare.store import open_store
from tests.support_store import draft, raw_cid


async def test_what_belongs_to_nothing_goes_and_the_rest_stays(tmp_path: Path) -> None:
    with open_store(tmp_path / "home") as store:
        running, ended = (store.jobs.create("fetch", {}, "name", None, 0) for _ in range(2))
        store.jobs.update(running.id, state="running")
        store.jobs.update(ended.id, state="cancelled")
        for owner in (running.id, ended.id, 999):
            store.blocks.put_many(-owner, [(raw_cid(str(owner)).binary, b"node")])
        for number in (running.id * MAX_PATHS, ended.id * MAX_PATHS, 999 * MAX_PATHS, 5):
            copy = store.directory / "copies" / str(number) / "name"
            copy.parent.mkdir(parents=True)
            copy.write_bytes(b"kept")
        store.items.add(draft(path=str(store.directory / "copies" / "5" / "name")))
        await tidy(store)
        assert store.unfinished() == {running.id}
        assert store.blocks.stats().blocks == 1
        left = {int(path.name) for path in (store.directory / "copies").iterdir()}
        assert left == {running.id * MAX_PATHS, 5}
