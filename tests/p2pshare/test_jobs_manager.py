from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pshare.errors import Cancelled, NotFound, TimedOut, UsageError
from p2pshare.jobs import JobHandle, JobManager, as_dict
from p2pshare.store import Job, Store, open_store

Runner = Callable[[JobHandle], Awaitable[dict[str, Any] | None]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        yield opened


async def ended(jobs: JobManager, job_id: int) -> list[dict[str, Any]]:
    async with jobs.watch(job_id) as events:
        return [event async for event in events]


class Gate:
    """A runner that says when it began, and goes on when it is told to."""

    def __init__(self) -> None:
        self.running: list[int] = []
        self.most = 0
        self.open = trio.Event()

    async def __call__(self, job: JobHandle) -> dict[str, Any]:
        self.running.append(job.id)
        self.most = max(self.most, len(self.running))
        try:
            await self.open.wait()
        finally:
            self.running.remove(job.id)
        return {"cid": "bafy"}


async def test_a_job_runs_to_its_end_and_its_result_is_the_done_event(store: Store) -> None:
    async def runner(job: JobHandle) -> dict[str, Any]:
        job.progress(5, 10, rate=3.0)
        return {"cid": "bafy", "name": job.params["name"]}

    async with JobManager(store) as jobs:
        jobs.register("share", runner)
        job = jobs.start("share", {"name": "x"}, name="x")
        events = await ended(jobs, job.id)
        assert [event["event"] for event in events] == ["state", "state", "progress", "done"]
        assert events[-1].items() >= {"event": "done", "job": job.id, "cid": "bafy", "name": "x"}.items()
        assert events[2].items() >= {"bytes": 5, "total": 10, "rate": 3.0}.items()
        assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
        kept = store.jobs.get(job.id)
        assert (kept.state, kept.bytes, kept.total, kept.result) == ("done", 5, 10, {"cid": "bafy", "name": "x"})


async def test_only_so_many_of_a_kind_run_and_the_others_say_why_they_wait(store: Store) -> None:
    gate, other = Gate(), Gate()
    async with JobManager(store) as jobs:
        jobs.register("fetch", gate, limit=2)
        jobs.register("share", other, limit=1)
        first, second, third = (jobs.start("fetch", {}) for _ in range(3))
        jobs.start("share", {})
        await wait_all_tasks_blocked()
        assert sorted(gate.running) == [first.id, second.id]
        assert len(other.running) == 1
        assert (third.state, third.reason) == ("queued", "queued: 2 fetches run already")
        gate.open.set()
        other.open.set()
        assert (await ended(jobs, third.id))[-1]["event"] == "done"
        assert gate.most == 2
        assert store.jobs.get(third.id).reason == ""


async def test_the_higher_priority_goes_first(store: Store) -> None:
    order: list[int] = []

    async def runner(job: JobHandle) -> None:
        order.append(job.id)

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner, limit=1)
        low, middle, high = (jobs.start("fetch", {}, priority=priority) for priority in (0, 0, 5))
        await ended(jobs, middle.id)
        assert order == [low.id, high.id, middle.id]


async def test_an_expected_error_fails_the_job_with_its_kind_and_hint(store: Store) -> None:
    async def runner(job: JobHandle) -> None:
        async with trio.open_nursery():  # wraps it in a group
            raise TimedOut("no source answered", hint="try later")

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        last = (await ended(jobs, job.id))[-1]
        expected = {"kind": "timeout", "message": "no source answered", "hint": "try later", "retryable": True}
        assert last.items() >= {"event": "error", "job": job.id, **expected}.items()
        assert store.jobs.get(job.id).error == expected


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_defect_in_a_runner_ends_its_job_and_nothing_else(
    store: Store, caplog: pytest.LogCaptureFixture, grouped: bool
) -> None:
    async def runner(job: JobHandle) -> None:
        if grouped:
            raise ExceptionGroup("", [TimedOut("x"), ValueError("secret detail")])
        raise ValueError("secret detail")

    async with JobManager(store) as jobs:
        jobs.register("share", runner)
        jobs.register("fetch", Gate())
        other = jobs.start("fetch", {})
        last = (await ended(jobs, jobs.start("share", {}).id))[-1]
        assert (last["event"], last["kind"], last["retryable"]) == ("error", "internal", False)
        assert "secret detail" not in last["message"]
        assert "secret detail" in caplog.text
        assert "Traceback" in caplog.text
        assert jobs.get(other.id).state == "running"


async def test_pause_keeps_what_it_has_and_resume_goes_on(store: Store) -> None:
    seen: list[bytes | None] = []
    go = trio.Event()

    async def runner(job: JobHandle) -> dict[str, Any]:
        seen.append(job.load_blob())
        job.progress(40, 100)
        job.save_blob(b"bitmap")
        await go.wait()
        return {}

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        await wait_all_tasks_blocked()
        paused = await jobs.pause(job.id)
        assert (paused.state, paused.bytes) == ("paused", 40)
        assert await jobs.pause(job.id) == paused
        go.set()
        jobs.resume(job.id)
        assert (await ended(jobs, job.id))[-1]["event"] == "done"
        assert seen == [None, b"bitmap"]


async def test_a_queued_job_can_be_paused_and_leaves_the_queue(store: Store) -> None:
    gate = Gate()
    async with JobManager(store) as jobs:
        jobs.register("fetch", gate, limit=1)
        first, second = jobs.start("fetch", {}), jobs.start("fetch", {})
        assert (await jobs.pause(second.id)).state == "paused"
        gate.open.set()
        await ended(jobs, first.id)
        await wait_all_tasks_blocked()
        assert jobs.get(second.id).state == "paused"


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
async def test_cancel_ends_a_job_in_any_state_and_tidies_up(store: Store, state: str) -> None:
    gate = Gate()
    tidied: list[Job] = []

    async def discard(job: Job) -> None:
        assert job.id not in gate.running
        tidied.append(job)

    async with JobManager(store) as jobs:
        jobs.register("fetch", gate, limit=1, discard=discard)
        if state == "queued":
            jobs.start("fetch", {})
        job = jobs.start("fetch", {})
        await wait_all_tasks_blocked()
        if state == "paused":
            await jobs.pause(job.id)
        assert jobs.get(job.id).state == state
        assert (await jobs.cancel(job.id)).state == "cancelled"
        last = (await ended(jobs, job.id))[-1]
        assert (last["event"], last["kind"]) == ("error", "cancelled")
        assert [one.id for one in tidied] == [job.id]
        for again in (jobs.pause, jobs.cancel):
            if again == jobs.cancel:
                assert (await again(job.id)).state == "cancelled"
            else:
                with pytest.raises(UsageError):
                    await again(job.id)
        with pytest.raises(UsageError):
            jobs.resume(job.id)


async def test_a_runner_that_tidies_up_slowly_is_waited_for(store: Store) -> None:
    tidy = trio.Event()

    async def runner(job: JobHandle) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await tidy.wait()

    async with JobManager(store) as jobs, trio.open_nursery() as nursery:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        await wait_all_tasks_blocked()
        nursery.start_soon(jobs.pause, job.id)
        await wait_all_tasks_blocked()
        assert store.jobs.get(job.id).state == "running"
        tidy.set()
        await wait_all_tasks_blocked()
        assert store.jobs.get(job.id).state == "paused"


async def test_a_runner_may_say_itself_that_it_was_cancelled(store: Store) -> None:
    async def runner(job: JobHandle) -> None:
        raise Cancelled("the user closed it")

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        await ended(jobs, job.id)
        assert store.jobs.get(job.id).state == "cancelled"


async def test_a_failed_job_can_be_tried_again(store: Store) -> None:
    tries: list[int] = []

    async def runner(job: JobHandle) -> None:
        tries.append(job.id)
        if len(tries) == 1:
            raise TimedOut("x")

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        await ended(jobs, job.id)
        jobs.resume(job.id)
        assert (await ended(jobs, job.id))[-1]["event"] == "done"
        kept = store.jobs.get(job.id)
        assert (kept.state, kept.error) == ("done", None)


async def test_a_stop_of_the_daemon_leaves_jobs_running_and_the_next_start_goes_on(store: Store) -> None:
    gate = Gate()
    async with JobManager(store) as jobs:
        jobs.register("fetch", gate, limit=1)
        first, second = jobs.start("fetch", {}), jobs.start("fetch", {})
        third = jobs.start("fetch", {})
        await jobs.pause(third.id)
        await wait_all_tasks_blocked()
    assert [job.state for job in store.jobs.list()] == ["running", "queued", "paused"]
    assert gate.running == []

    gate.open.set()
    async with JobManager(store) as jobs:
        jobs.register("fetch", gate, limit=1)
        assert [job.id for job in jobs.recover()] == [first.id, second.id]
        for job in (first, second):
            assert (await ended(jobs, job.id))[-1]["event"] == "done"
        assert jobs.get(third.id).state == "paused"


async def test_recover_keeps_a_job_of_a_kind_that_nobody_runs_now(store: Store) -> None:
    job = store.jobs.create("torrent", {})
    async with JobManager(store) as jobs:
        jobs.recover()
        assert "torrent" in jobs.get(job.id).reason
        assert (await jobs.cancel(job.id)).state == "cancelled"


async def test_unknown_jobs_and_kinds_are_errors(store: Store) -> None:
    async with JobManager(store) as jobs:
        with pytest.raises(UsageError, match="'x'"):
            jobs.start("x", {})
        with pytest.raises(NotFound):
            jobs.watch(99)
        with pytest.raises(NotFound):
            await jobs.pause(99)


async def test_progress_is_told_five_times_a_second_and_written_once(
    store: Store, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    keep = store.jobs.note_progress
    monkeypatch.setattr(
        store.jobs, "note_progress", lambda job, count, *rest: (written.append(count), keep(job, count, *rest))
    )

    async def runner(job: JobHandle) -> None:
        for count in range(1, 1001):  # ten seconds, a hundred reports a second
            job.progress(count, 1000)
            await trio.sleep(0.01)

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        told: list[int] = []
        store.events.listen(lambda event: told.append(event.body["bytes"]) if not event.durable else None)
        job = jobs.start("fetch", {})
        events = await ended(jobs, job.id)
    assert 45 <= len(told) <= 52
    assert told[-1] == 1000
    assert 9 <= len(written) <= 12
    assert written[-1] == 1000
    assert events[-1]["event"] == "done"
    assert len(store.events.since(0)) == 3  # queued, running, done: progress is not kept


@pytest.mark.parametrize("stopped", [False, True])
async def test_the_last_progress_is_in_the_catalogue_however_it_ends(
    store: Store, autojump_clock: MockClock, stopped: bool
) -> None:
    async def runner(job: JobHandle) -> None:
        job.progress(1, 10)
        await trio.sleep(0.3)
        job.progress(7, 10)  # told at once, but within a second of the last write
        await trio.sleep(0.3)
        if stopped:
            await trio.sleep_forever()

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        await trio.sleep(0.9)
    assert store.jobs.get(job.id).state == ("running" if stopped else "done")
    assert store.jobs.get(job.id).bytes == 7


async def test_a_changed_reason_is_told_without_progress(store: Store, autojump_clock: MockClock) -> None:
    gate = trio.Event()

    async def runner(job: JobHandle) -> None:
        job.reason("asking 4 of 20 nodes for sources")
        await gate.wait()

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        async with jobs.watch(job.id) as events:
            async for event in events:
                if event["event"] == "progress":
                    assert event["reason"] == jobs.get(job.id).reason == "asking 4 of 20 nodes for sources"
                    gate.set()
        assert store.jobs.get(job.id).state == "done"


async def test_a_watcher_that_sleeps_holds_nobody_up_and_misses_no_state(store: Store) -> None:
    async def runner(job: JobHandle) -> None:
        for number in range(700):
            job.set(name=f"name {number}")
            job.progress(number, 700)
            await trio.lowlevel.checkpoint()

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        sleeper = jobs.watch(job.id)
        await ended(jobs, job.id)
        events = [event async for event in sleeper]
        names = [event["name"] for event in events if event["event"] == "state"]
        assert names[-700:] == [f"name {number}" for number in range(700)]
        assert sum(event["event"] == "progress" for event in events) <= 2
        assert events[-1]["event"] == "done"


async def test_watching_again_since_a_number_gives_what_was_missed(store: Store) -> None:
    gate = trio.Event()

    async def runner(job: JobHandle) -> None:
        job.set(name="a")
        job.set(name="b")
        await gate.wait()

    async with JobManager(store) as jobs:
        jobs.register("fetch", runner)
        job = jobs.start("fetch", {})
        await wait_all_tasks_blocked()
        everything = [as_dict(event) for event in store.events.since(0)]
        after_a = next(event["seq"] for event in everything if event["name"] == "a")
        gate.set()
        async with jobs.watch(job.id, since=after_a) as events:
            seen = [event async for event in events]
        assert seen[0]["name"] == "b"
        assert seen[-1]["event"] == "done"
        again = [event async for event in jobs.watch(job.id, since=seen[-1]["seq"])]
        assert again[-1]["event"] == "done"


async def test_the_feed_follows_topics_from_a_number_on(store: Store) -> None:
    async with JobManager(store) as jobs:
        store.events.append("shares", {"n": 1})
        first = store.events.append("peers", {"n": 2}).seq
        store.events.append("shares", {"n": 3})
        async with jobs.feed.follow(("shares",), since=first) as events:
            assert (await anext(events)).body == {"n": 3}
            with trio.move_on_after(0):
                await anext(events)
            store.events.transient("shares", {"n": 4})
            store.events.append("peers", {"n": 5})
            store.events.append("shares", {"n": 6})
            assert [(await anext(events)).body["n"] for _ in range(2)] == [4, 6]


async def test_a_feed_that_is_closed_ends_its_followers(store: Store) -> None:
    seen: list[object] = []

    async def follow(jobs: JobManager) -> None:
        async for event in jobs.feed.follow():
            seen.append(event)
        seen.append("end")

    async with trio.open_nursery() as nursery, JobManager(store) as jobs:
        nursery.start_soon(follow, jobs)
        await wait_all_tasks_blocked()
    assert seen == ["end"]
