"""Watching one job from wherever it stands to its end."""

from __future__ import annotations

from collections import deque
from typing import Any, Self

import trio

from p2pshare.jobs.feed import Feed, as_dict
from p2pshare.jobs.handle import final_body, state_body
from p2pshare.store import Event, Job, Store

_REPLAYED = 1000  # events looked through for what a watcher missed


class Watch:
    """An async iterator of dicts, and an async context manager. Ends behind the job's "done" or "error" event."""

    def __init__(self, store: Store, feed: Feed, job: Job, since: int | None) -> None:
        now = store.events.last_seq
        self._over = job.finished
        self._ready: deque[dict[str, Any]] = deque()
        if since is not None:
            self._replay(store.events.since(since, ("jobs",), _REPLAYED), job.id)
        shown = [state_body(job), *([final_body(job)] if job.finished else [])]
        self._ready.extend(as_dict(Event(now, job.updated, "jobs", body)) for body in shown)
        self._follower = feed.follow(("jobs",), now, job=job.id)

    def _replay(self, missed: list[Event], job_id: int) -> None:
        for event in missed:
            if event.body.get("job") == job_id and not _final(event):  # a failed job may have been resumed since
                self._ready.append(as_dict(event))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self._ready:
            await trio.lowlevel.checkpoint()
            return self._ready.popleft()
        if self._over:
            raise StopAsyncIteration
        event = await self._follower.__anext__()
        self._over = _final(event)
        return as_dict(event)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._follower.close()


def _final(event: Event) -> bool:
    return event.body.get("event") in ("done", "error")
