"""What a runner holds of its job: the params, and how to tell what it does. All of it is cheap and never waits."""

from __future__ import annotations

import logging
from typing import Any, Final, Literal

import trio

from p2pshare.errors import P2PShareError
from p2pshare.store import Job, Store
from p2pshare_protocols.cid import CID

EVENT_INTERVAL: Final = 0.2  # seconds between two progress events of one job
DURABLE_INTERVAL: Final = 1.0  # seconds between two writes of progress to the catalogue

Intent = Literal["", "pause", "cancel"]
_log = logging.getLogger(__name__)


class JobHandle:
    """Passed to a runner, valid while it runs."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self.id = job.id
        self.kind = job.kind
        self.params: dict[str, Any] = job.params
        self.name = job.name
        self.cid = job.cid
        self.priority = job.priority
        self.bytes = job.bytes
        self.total = job.total
        self.reason_text = ""
        self.intent: Intent = ""  # why the runner is being cancelled; "" also when the daemon stops
        self._extra: dict[str, Any] = {}
        self._dirty = trio.Event()
        self._unwritten = False
        self._written = -DURABLE_INTERVAL

    def progress(self, bytes: int, total: int | None = None, **extra: Any) -> None:
        """How far it is, as often as the runner likes. `extra` (rate, sources) goes into the event only."""
        self.bytes = bytes
        if total is not None:
            self.total = total
        if extra:
            self._extra = extra
        self._dirty.set()

    def reason(self, text: str) -> None:
        """What it waits for, in words: "asking 4 of 20 nodes for sources"; "" when it waits for nothing."""
        if text != self.reason_text:
            self.reason_text = text
            self._dirty.set()

    def set(self, *, cid: CID | str | None = None, name: str | None = None) -> None:
        """What the job turned out to be about. Durable on return."""
        self.cid = self.cid if cid is None else str(cid)
        self.name = self.name if name is None else name
        with self._store.transaction():
            self._store.jobs.update(self.id, cid=cid, name=name)
            self._store.events.append("jobs", state_body(self._store.jobs.get(self.id)))

    def save_blob(self, data: bytes) -> None:
        """Keep what is needed to go on after a restart. Durable on return."""
        self._store.jobs.save_blob(self.id, data)

    def load_blob(self) -> bytes | None:
        return self._store.jobs.load_blob(self.id)

    async def pump(self) -> None:
        """Turn progress into events and rows, throttled. Runs beside the runner; ends by cancellation."""
        while True:
            await self._dirty.wait()
            self.flush(durable=trio.current_time() - self._written >= DURABLE_INTERVAL)
            await trio.sleep(EVENT_INTERVAL)

    def flush(self, *, durable: bool) -> None:
        """Tell, and with `durable` also write, what is new. A full disk is no reason to end a job's reporting."""
        try:
            if self._dirty.is_set():
                self._dirty = trio.Event()
                self._unwritten = True
                body = {"event": "progress", "job": self.id, "bytes": self.bytes, "total": self.total}
                self._store.events.transient("jobs", {**self._extra, **body, "reason": self.reason_text})
            if durable and self._unwritten:
                self._unwritten = False
                self._written = trio.current_time()
                self._store.jobs.note_progress(self.id, self.bytes, self.total, self.reason_text)
        except P2PShareError as error:
            _log.warning("the progress of job %d was not kept: %s", self.id, error)


def describe(job: Job) -> dict[str, Any]:
    """A job as `jobs --json` shows it. Times are unix seconds."""
    return {
        "job": job.id,
        "kind": job.kind,
        "state": job.state,
        "cid": job.cid,
        "name": job.name,
        "bytes": job.bytes,
        "total": job.total,
        "reason": job.reason,
        "created": job.created,
        "updated": job.updated,
        "priority": job.priority,
    }


def state_body(job: Job) -> dict[str, Any]:
    return {"event": "state", **describe(job)}


def final_body(job: Job) -> dict[str, Any]:
    """The last event of a finished job: the runner's result, or its error."""
    if job.state == "done":
        return {**(job.result or {}), "event": "done", "job": job.id}
    return {**(job.error or {}), "event": "error", "job": job.id, "state": job.state}
