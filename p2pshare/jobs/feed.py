"""Following events without ever holding the daemon up.

A follower keeps no queue of durable events: it knows the last number it gave out, is woken, and reads on in the
catalogue, so that one that sleeps for an hour misses nothing that is still kept. Of progress it keeps the newest of
each job, and loses what came between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any, Final, Self
from weakref import WeakSet

import trio

from p2pshare.store import Event, Store

_PAGE: Final = 256
_MAX_PROGRESS: Final = 256  # jobs whose newest progress one follower holds


class Follower:
    """An async iterator over events; also an async context manager, which ends the following at once.

    `__anext__` is a checkpoint; when it is cancelled no event is lost.
    """

    def __init__(self, store: Store, topics: Collection[str], seq: int, job: int | None = None) -> None:
        self._store = store
        self._topics = tuple(topics)
        self._job = job
        self._seq = seq
        self._ready: deque[Event] = deque()
        self._progress: dict[tuple[object, ...], Event] = {}
        self._wake = trio.Event()
        self._closed = False
        self._wake.set()  # what is in the catalogue already

    def tell(self, event: Event) -> None:
        """Called for every event. Never waits, never grows without bound."""
        if self._topics and event.topic not in self._topics:
            return
        job = event.body.get("job")
        if self._job is not None and job != self._job:
            return
        key = (event.topic, event.body.get("event"), job)
        if not event.durable and (key in self._progress or len(self._progress) < _MAX_PROGRESS):
            self._progress[key] = event
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            await self._wake.wait()
            self._fill()
        return self._ready.popleft()

    def _fill(self) -> None:
        page = self._store.events.since(self._seq, self._topics, _PAGE)
        if len(page) < _PAGE:
            self._wake = trio.Event()
            newest = [*self._progress.values()]
            self._progress.clear()
        else:
            newest = []
        if page:
            self._seq = page[-1].seq
        mine = [event for event in page if self._job is None or event.body.get("job") == self._job]
        self._ready.extend(sorted([*mine, *newest]))

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Feed:
    """Hands the catalogue's events on to any number of followers. Close it with the daemon."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._followers: WeakSet[Follower] = WeakSet()
        self._stop = store.events.listen(self._tell)

    def follow(self, topics: Collection[str] = (), since: int | None = None, *, job: int | None = None) -> Follower:
        """Events of these topics (none: all) numbered above `since`, or from now on; of one job when it is given."""
        follower = Follower(self._store, topics, self._store.events.last_seq if since is None else since, job)
        self._followers.add(follower)
        return follower

    def _tell(self, event: Event) -> None:
        for follower in tuple(self._followers):
            follower.tell(event)

    def close(self) -> None:
        self._stop()
        for follower in tuple(self._followers):
            follower.close()


def as_dict(event: Event) -> dict[str, Any]:
    """An event as the control socket sends it."""
    return {**event.body, "seq": event.seq, "time": event.time, "topic": event.topic}
