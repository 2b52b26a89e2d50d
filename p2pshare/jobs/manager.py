"""Durable work: what was started is done, over restarts of the client and of the daemon.

    queued --> running --> done | failed | cancelled
      |  ^       |
      v  |       v          resume: paused or failed --> queued
     paused <----+          daemon starts again: running --> queued

A state is in the catalogue before anybody hears of it. A daemon that stops, or dies, leaves its running jobs
"running"; `recover` queues them again, and their runners go on from what they saved.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import trio

from p2pshare.errors import Cancelled, LocalError, P2PShareError, UsageError
from p2pshare.jobs.failure import cause, describe_error
from p2pshare.jobs.feed import Feed
from p2pshare.jobs.handle import Intent, JobHandle, final_body, state_body
from p2pshare.jobs.watch import Watch
from p2pshare.store import Job, JobState, Store
from p2pshare_protocols.cid import CID

MAX_WAITING: Final = 10_000  # jobs that are queued or paused

Runner = Callable[[JobHandle], Awaitable[Mapping[str, Any] | None]]
Discard = Callable[[Job], Awaitable[None]]
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kind:
    runner: Runner
    limit: int
    plural: str
    discard: Discard | None
    waiting: list[Job] = field(default_factory=list)
    running: int = 0


@dataclass(slots=True)
class _Run:
    handle: JobHandle
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class JobManager:
    """An async context manager: register the kinds, then `recover`, then start what is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kinds: dict[str, _Kind] = {}
        self._runs: dict[int, _Run] = {}
        self._nursery_manager: AbstractAsyncContextManager[trio.Nursery] = trio.open_nursery()
        self._nursery: trio.Nursery
        self.feed: Feed

    async def __aenter__(self) -> Self:
        self._nursery = await self._nursery_manager.__aenter__()
        self.feed = Feed(self._store)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops the runners, and waits until they have tidied up. Their jobs stay "running" for the next start."""
        self._nursery.cancel_scope.cancel()
        try:
            await self._nursery_manager.__aexit__(None, None, None)
        finally:
            self.feed.close()

    def register(
        self,
        kind: str,
        runner: Runner,
        *,
        limit: int = 2,
        plural: str | None = None,
        discard: Discard | None = None,
    ) -> None:
        """Say how jobs of a kind are run, and how many at a time. A runner must be able to go on where it was cut off.

        Its mapping becomes the "done" event. P2PShareError makes the job fail; errors.Cancelled ends it cancelled.
        `discard` tidies up after a job that was cancelled (its runner has ended, or never ran).
        """
        self._kinds[kind] = _Kind(runner, limit, plural or _plural(kind), discard)

    def recover(self) -> list[Job]:
        """Queue what an earlier daemon left queued or running. Call it once, when every kind is registered."""
        found = self._store.jobs.list(("queued", "running"))
        with self._store.transaction():
            for job in found:
                if job.id not in self._runs:
                    self._enqueue(job)
        return found

    def start(
        self, kind: str, params: Mapping[str, Any], name: str = "", cid: CID | str | None = None, priority: int = 0
    ) -> Job:
        """A new job, durable on return; it runs as soon as its kind has a free place. Raises UsageError."""
        if kind not in self._kinds:
            raise UsageError(f"nothing here runs jobs of the kind {kind!r}")
        counts = self._store.jobs.counts()
        if counts.get("queued", 0) + counts.get("paused", 0) >= MAX_WAITING:
            raise LocalError(f"{MAX_WAITING} jobs wait already", kind="quota", hint="cancel some of them")
        with self._store.transaction():
            job = self._store.jobs.create(kind, params, name, cid, priority)
            self._store.events.append("jobs", state_body(job))
        self._enqueue(job)
        return self.get(job.id)

    def _enqueue(self, job: Job) -> None:
        kind = self._kinds.get(job.kind)
        if kind is None:
            self._change(job.id, "queued", reason=f"queued: nothing here runs jobs of the kind {job.kind}")
            return
        kind.waiting.append(job)
        kind.waiting.sort(key=lambda waiting: (-waiting.priority, waiting.id))
        self._fill(kind)
        if job in kind.waiting:
            self._change(job.id, "queued", reason=f"queued: {kind.running} {kind.plural} run already")

    def _fill(self, kind: _Kind) -> None:
        while kind.waiting and kind.running < kind.limit:
            job = kind.waiting.pop(0)
            run = self._runs[job.id] = _Run(JobHandle(self._store, job))
            kind.running += 1
            self._nursery.start_soon(self._run, kind, run)

    async def _run(self, kind: _Kind, run: _Run) -> None:
        job_id = run.handle.id
        try:
            self._record(job_id, "running")
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run.handle.pump)
                    state, outcome = await self._outcome(kind, run)
                    nursery.cancel_scope.cancel()
            finally:
                run.handle.flush(durable=True)
            if state == "cancelled" and kind.discard is not None:
                await self._discard(kind.discard, self._store.jobs.get(job_id))
            self._record(job_id, state, outcome)
        finally:
            kind.running -= 1
            del self._runs[job_id]
            run.ended.set()
        self._fill(kind)

    async def _outcome(self, kind: _Kind, run: _Run) -> tuple[JobState, dict[str, Any] | None]:
        """Run it to its end. Only the daemon's own stop, a cancellation from outside, leaves this by an exception."""
        result: Mapping[str, Any] | None = None
        finished = False
        failure: P2PShareError | None = None
        try:
            with run.scope:
                result = await kind.runner(run.handle)
                finished = True
        except BaseExceptionGroup as group:
            ends, errors = group.split(lambda error: not isinstance(error, Exception))
            if ends is not None:
                if errors is not None:
                    self._failure(errors, run)
                raise ends from None
            failure = self._failure(group, run)
        except Exception as error:  # noqa: BLE001 - a defect in one runner ends its job, not the daemon
            failure = self._failure(error, run)
        if finished:
            return "done", dict(result or {})
        if run.handle.intent == "pause":
            return "paused", None
        if run.handle.intent == "cancel" or isinstance(failure, Cancelled):
            return "cancelled", describe_error(failure if isinstance(failure, Cancelled) else _CANCELLED)
        return "failed", describe_error(failure or LocalError("it was cut off"))

    def _failure(self, error: BaseException, run: _Run) -> P2PShareError:
        known = cause(error)
        if known is None:
            _log.error("job %d (%s) failed unexpectedly", run.handle.id, run.handle.kind, exc_info=error)
            return LocalError(
                f"a defect in p2pshare: {type(error).__name__}", kind="internal", hint="the log has the details"
            )
        return known

    async def _discard(self, discard: Discard, job: Job) -> None:
        try:
            await discard(job)
        except Exception:  # noqa: BLE001 - a defect in one kind's tidying up ends nothing else
            _log.exception("job %d could not be tidied up", job.id)

    def _record(self, job_id: int, state: JobState, outcome: dict[str, Any] | None = None) -> None:
        """Write a state. A full disk gave its ballast up at the first try, so that the second one has room."""
        try:
            self._change(job_id, state, outcome)
        except P2PShareError as error:
            _log.warning("the state of job %d was not written, trying again: %s", job_id, error)
            try:
                self._change(job_id, state, outcome)
            except P2PShareError as again:
                _log.error("job %d is %s, but that could not be written: %s", job_id, state, again)

    def _change(self, job_id: int, state: JobState, outcome: dict[str, Any] | None = None, reason: str = "") -> None:
        """One durable transaction: the row, and the event about it."""
        jobs, events = self._store.jobs, self._store.events
        with self._store.transaction():
            key = "result" if state == "done" else "error"
            jobs.update(job_id, state=state, reason=reason, **{key: outcome})  # type: ignore[arg-type]
            job = jobs.get(job_id)
            events.append("jobs", final_body(job) if job.finished else state_body(job))

    async def pause(self, job_id: int) -> Job:
        """Stop it, keep what it has, and wait until it stands still. Raises NotFound, UsageError when it is over."""
        return await self._stop(job_id, "pause", "paused")

    async def cancel(self, job_id: int) -> Job:
        """End it, and wait until it has ended. Raises NotFound, UsageError when it is over."""
        return await self._stop(job_id, "cancel", "cancelled")

    async def _stop(self, job_id: int, intent: Intent, state: JobState) -> Job:
        job = self._store.jobs.get(job_id)
        run = self._runs.get(job_id)
        if run is not None:
            if run.handle.intent != "cancel":
                run.handle.intent = intent
            run.scope.cancel()
            await run.ended.wait()
            return self.get(job_id)
        if job.state == state:
            return job
        if job.finished:
            raise UsageError(f"job {job_id} is {job.state} already")
        kind = self._kinds.get(job.kind)
        if kind is not None:
            kind.waiting = [waiting for waiting in kind.waiting if waiting.id != job_id]
            if intent == "cancel" and kind.discard is not None:
                await self._discard(kind.discard, job)
        self._change(job_id, state, describe_error(_CANCELLED) if intent == "cancel" else None)
        return self.get(job_id)

    def resume(self, job_id: int) -> Job:
        """Queue a paused or a failed job again. Raises NotFound, UsageError when it is done or cancelled."""
        job = self._store.jobs.get(job_id)
        if job.state in ("queued", "running"):
            return self.get(job_id)
        if job.state in ("done", "cancelled"):
            raise UsageError(f"job {job_id} is {job.state} already", hint="start it anew")
        self._change(job_id, "queued")
        self._enqueue(self._store.jobs.get(job_id))
        return self.get(job_id)

    def get(self, job_id: int) -> Job:
        """As of now: a running job's progress is newer than its row. Raises NotFound."""
        return self._live(self._store.jobs.get(job_id))

    def list(self, states: Collection[str] | None = None) -> list[Job]:
        return [self._live(job) for job in self._store.jobs.list(states)]

    def _live(self, job: Job) -> Job:
        run = self._runs.get(job.id)
        if run is None or job.state != "running":
            return job
        handle = run.handle
        return replace(job, bytes=handle.bytes, total=handle.total, reason=handle.reason_text)

    def clear(self, older_than: float | None = None) -> int:
        """Forget finished jobs; returns how many."""
        return self._store.jobs.clear(older_than)

    def watch(self, job_id: int, since: int | None = None) -> Watch:
        """The events of one job: first how it stands, then what happens, up to and with "done" or "error".

        Each is a dict {"event", "job", "seq", "time", …}. With `since`, the kept events numbered above it come first.
        A slow watcher loses progress in between, never a state. Raises NotFound.
        """
        return Watch(self._store, self.feed, self.get(job_id), since)


_CANCELLED: Final = Cancelled("it was cancelled")


def _plural(kind: str) -> str:
    return kind + ("es" if kind.endswith(("ch", "sh", "s", "x")) else "s")
