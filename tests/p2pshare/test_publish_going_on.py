"""Shares that are cut off, cancelled or large: what is kept, what is dropped, what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pshare.content import hashing
from p2pshare.content.hashing import run_ordered
from p2pshare.content.publisher import Publisher
from p2pshare.content.walk import MAX_DEPTH, Scanner
from p2pshare.errors import DiskFull, LocalError, SourceChanged
from p2pshare.jobs import JobManager
from p2pshare.publish import ShareOptions, discard, share
from p2pshare.store import Store, open_store
from tests.support_content import write_tree
from tests.support_publish import RememberingJob, share_paths

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as store:
        yield store


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are opened for hashing."""
    paths: list[str] = []
    real = hashing.open_regular

    def remember(path: str, **options: Any) -> tuple[int, os.stat_result]:
        paths.append(path)
        return real(path, **options)

    monkeypatch.setattr(hashing, "open_regular", remember)
    return paths


FILES = 40  # far more pieces of work than the workers are ever ahead


def large_tree(root: Path) -> None:
    write_tree({"entries": [{"path": f"{i:02}", "keystream": MIB + i + 1} for i in range(FILES)]}, root)


@pytest.mark.parametrize("intent", ["", "cancel"])
async def test_a_share_that_is_cut_off(store: Store, tmp_path: Path, opened: list[str], intent: str) -> None:
    """Stopped (the daemon ends, a pause): hashed files are not read again. Cancelled: nothing of it stays."""
    root = tmp_path / "d"
    large_tree(root)
    job = RememberingJob(5)
    job.intent = intent
    with trio.CancelScope() as scope:

        def stop_half_way(done: int, total: int | None = None, **_: object) -> None:
            if total and done >= total // 2:
                scope.cancel()

        job.progress = stop_half_way  # type: ignore[method-assign]
        await share_paths(store, root, job=job)
    assert scope.cancelled_caught
    assert store.items.count() == 0
    opened.clear()
    kept = store.blocks.stats().references
    done = await share_paths(store, root, job=RememberingJob(5))
    assert done["files"] == FILES
    if intent == "cancel":
        assert kept == 0
        assert len(set(opened)) == FILES
    else:
        assert kept >= FILES  # half of the files, two chunks each
        assert 0 < len(set(opened)) <= FILES // 2
    assert await share_paths(store, root, job=RememberingJob(6)) == done


async def test_files_recorded_before_a_kill_are_not_read_again(
    store: Store, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "d"
    write_tree({"entries": [{"path": f"{i:04}", "text": f"{i}"} for i in range(2500)]}, root)
    real = store.references.add_files
    calls: list[int] = []

    def fail_on_the_second(*args: Any, **options: Any) -> list[int]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(store.references, "add_files", fail_on_the_second)
    monkeypatch.setattr("p2pshare.content.publisher.Publisher.discard", lambda self: None)  # a kill asks nobody
    with pytest.raises(KeyboardInterrupt):
        await share_paths(store, root, job=RememberingJob(5))
    monkeypatch.undo()
    before = store.blocks.stats().references
    assert 0 < before < 2500
    read: list[str] = []
    small = hashing.Hasher._hash_one
    monkeypatch.setattr(hashing.Hasher, "_hash_one", lambda self, file: (read.append(file.path), small(self, file))[1])
    done = await share_paths(store, root, job=RememberingJob(5))
    assert done["files"] == 2500
    assert len(read) == 2500 - before


async def test_leftovers_of_an_earlier_run_do_not_enter_the_item(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_tree({"entries": [{"path": "gone", "text": "x"}, {"path": "stays", "text": "y"}]}, root)
    await share_paths(store, root, job=RememberingJob(5))
    item = store.items.by_path(str(root))
    assert item is not None
    store.references.adopt(item.id, -9)
    store.items.remove(item.id)
    (root / "gone").unlink()
    await share_paths(store, root, job=RememberingJob(9))
    item = store.items.by_path(str(root))
    assert item is not None
    assert [os.path.basename(file.path) for file in store.references.files_of(item.id)] == ["stays"]


async def test_as_a_job(store: Store, tmp_path: Path) -> None:
    """With the real JobManager: the result is the job's, and it ends with an error event when nothing is there."""
    (tmp_path / "f").write_text("hello")

    async def runner(job: Any) -> dict[str, Any]:
        return await share(store=store, options=ShareOptions.from_params(job.params), job=job, announce=None)

    async with JobManager(store) as jobs:
        jobs.register("share", runner)
        started = jobs.start("share", ShareOptions(paths=(str(tmp_path / "f"),)).to_params(), "f")
        with trio.fail_after(10):
            async for _ in jobs.watch(started.id):
                pass
        finished = jobs.get(started.id)
        assert finished.state == "done"
        assert finished.result is not None
        assert finished.cid == finished.result["cid"]
        missing = jobs.start("share", ShareOptions(paths=(str(tmp_path / "no"),)).to_params(), "no")
        with trio.fail_after(10):
            while not jobs.get(missing.id).finished:
                await trio.testing.wait_all_tasks_blocked()
        assert (jobs.get(missing.id).error or {})["kind"] == "not-found"


async def test_cancelling_tidies_up_but_never_what_is_shared(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("hello")
    params = ShareOptions(paths=(str(tmp_path / "f"),), copy=True).to_params()
    shared = store.jobs.create("share", params, "f")
    done = await share_paths(store, tmp_path / "f", copy=True, job=RememberingJob(shared.id))
    cut_off = store.jobs.create("share", params, "f")
    store.blocks.put_many(-cut_off.id, [(b"cid", b"data")])
    left = tmp_path / "home" / "copies" / str(cut_off.id * 1000)
    left.mkdir()
    for job in (shared, cut_off):
        await discard(store, job)
    assert Path(done["path"]).read_text() == "hello"
    assert not left.exists()
    assert store.blocks.stats().blocks == 0


async def test_a_full_catalogue_ends_the_share_with_one_error(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("hello")

    def full(*_: object, **__: object) -> list[int]:
        raise DiskFull("the disk is full")

    monkeypatch.setattr(store.references, "add_files", full)
    with pytest.raises(DiskFull):
        await share_paths(store, tmp_path / "f")
    assert store.items.count() == 0


async def test_results_are_consumed_in_order() -> None:
    late = threading.Event()
    order: list[int] = []

    def piece(number: int) -> int:
        if number == 0:
            late.wait(10)
        elif number == 5:
            late.set()
        return number

    limiter = trio.CapacityLimiter(2)
    await run_ordered([lambda n=n: piece(n) for n in range(20)], order.append, limiter=limiter)  # type: ignore[misc]
    assert order == list(range(20))


async def test_a_failing_piece_of_work_is_raised_as_itself() -> None:
    def fail() -> int:
        raise LocalError("no")

    with pytest.raises(LocalError):
        await run_ordered([fail], lambda _: None, limiter=trio.CapacityLimiter(2))


async def test_cancelling_all_workers_is_one_cancellation() -> None:
    both = threading.Barrier(2)
    caught: list[BaseException] = []
    with trio.CancelScope() as scope:
        work = [lambda: both.wait(10)] * 2 + [lambda: 0] * 100
        try:
            await run_ordered(work, lambda _: scope.cancel(), limiter=trio.CapacityLimiter(2))
        except BaseException as error:
            caught.append(error)
            raise
    assert [type(error) for error in caught] == [trio.Cancelled]


def test_directories_deeper_than_a_fetch_goes_are_told(tmp_path: Path) -> None:
    deep = tmp_path / "d"
    deep.joinpath(*("x" * 1 for _ in range(MAX_DEPTH + 2))).mkdir(parents=True)
    scan = Scanner().scan(str(deep))
    assert [skip["reason"] for skip in scan.skipped] == [f"more than {MAX_DEPTH} directories deep"]


_MEASURE = """
import resource, sys, trio
from pathlib import Path
from p2pshare.store import open_store
from tests.support_publish import RememberingJob, share_paths

async def main() -> None:
    with open_store(Path(sys.argv[1])) as store:
        await share_paths(store, sys.argv[2], job=RememberingJob(1))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        done = await share_paths(store, sys.argv[3], job=RememberingJob(2))
        assert done["size"] == 1 << 30, done
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

trio.run(main)
"""


@pytest.mark.slow
def test_sharing_a_gibibyte_grows_memory_by_less_than_64_mebibytes(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("x")
    with (tmp_path / "large").open("wb") as file:
        for number in range(1024):  # every chunk another one, and still no gibibyte on the disk
            file.seek(number * MIB)
            file.write(number.to_bytes(4, "big"))
        file.truncate(1 << 30)
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "home"), str(tmp_path / "small"), str(tmp_path / "large")],
        check=True,
        capture_output=True,
        text=True,
        cwd=root,
        timeout=120,
    )
    assert int(result.stdout) < 64 << 10  # KiB


async def test_what_is_unshared_while_it_is_shared_again_becomes_no_item_without_its_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "d"
    write_tree({"entries": [{"path": "one", "text": "x"}, {"path": "two", "text": "y"}]}, root)
    await share_paths(store, root, job=RememberingJob(5))
    real = Publisher.make_item

    async def unshared_before(self: Publisher, *arguments: Any) -> Any:
        item = store.items.by_path(str(root))
        assert item is not None
        store.items.remove(item.id)
        return await real(self, *arguments)

    monkeypatch.setattr(Publisher, "make_item", unshared_before)
    with pytest.raises(SourceChanged):
        await share_paths(store, root, job=RememberingJob(6))
    monkeypatch.undo()
    assert store.items.list() == []
    await share_paths(store, root, job=RememberingJob(7))
    item = store.items.by_path(str(root))
    assert item is not None
    assert len(list(store.references.files_of(item.id))) == 2
