"""The rows of durable work. What a state means, and who changes it, is told in `p2pshare.jobs`."""

# ruff: noqa: S608 - the pieces of SQL that are put together here are constants of this file

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from p2pshare.errors import NotFound
from p2pshare.store.database import Database
from p2pshare.store.model import FINAL_STATES, Job, JobState
from p2pshare.store.text import from_json, plain, to_json
from p2pshare_protocols.cid import CID

KEPT: Final = 1000  # finished jobs that are kept; older ones go when a new one is made
MAX_BLOB: Final = 64 << 20
_LISTED: Final = 10_000

_COLUMNS = "id, kind, params, state, reason, bytes, total, cid, name, result, error, created, updated, priority"


class Jobs:
    def __init__(self, database: Database, wall_clock: Callable[[], float]) -> None:
        self._db = database
        self._now = wall_clock

    def create(
        self,
        kind: str,
        params: Mapping[str, Any],
        name: str = "",
        cid: CID | str | None = None,
        priority: int = 0,
    ) -> Job:
        """A queued job, durable on return."""
        now = self._now()
        with self._db.transaction():
            cursor = self._db.execute(
                "INSERT INTO jobs (kind, params, state, reason, bytes, cid, name, created, updated, priority)"
                " VALUES (?, ?, 'queued', '', 0, ?, ?, ?, ?, ?)",
                (kind, to_json(dict(params)), _text(cid), plain(name, 4096), now, now, priority),
            )
            number = int(cursor.lastrowid or 0)
            if number % 50 == 0:
                self._prune()
            return self.get(number)

    def _prune(self) -> None:
        row = self._db.first(
            "SELECT id FROM jobs WHERE state IN ('done','failed','cancelled') ORDER BY id DESC LIMIT 1 OFFSET ?",
            (KEPT,),
        )
        if row is not None:
            self._delete("id <= ?", row)

    def get(self, job_id: int) -> Job:
        """Raises NotFound."""
        row = self._db.first(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,))
        if row is None:
            raise NotFound(f"there is no job {job_id}")
        return _job(row)

    def list(self, states: Collection[str] | None = None, limit: int = _LISTED) -> list[Job]:
        """Jobs in the order in which they were made: of these states, or all; the newest `limit` of them."""
        wanted = "1" if states is None else f"state IN ({','.join('?' * len(states))})"
        rows = self._db.all(
            f"SELECT {_COLUMNS} FROM jobs WHERE {wanted} ORDER BY id DESC LIMIT ?", (*(states or ()), limit)
        )
        return [_job(row) for row in reversed(rows)]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state; states without one are left out."""
        return dict(self._db.all("SELECT state, count(*) FROM jobs GROUP BY state"))

    def update(
        self,
        job_id: int,
        *,
        state: JobState | None = None,
        reason: str | None = None,
        bytes: int | None = None,
        total: int | None = None,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        cid: CID | str | None = None,
        name: str | None = None,
        priority: int | None = None,
    ) -> None:
        """Change what is given (None: leave as it is). A change of state clears an error left by an earlier try."""
        changes: dict[str, object] = {
            "state": state,
            "reason": None if reason is None else plain(reason, 4096),
            "bytes": bytes,
            "total": total,
            "result": None if result is None else to_json(dict(result)),
            "error": None if error is None else to_json(dict(error)),
            "cid": _text(cid),
            "name": None if name is None else plain(name, 4096),
            "priority": priority,
        }
        given = {column: value for column, value in changes.items() if value is not None}
        if state is not None:
            given.setdefault("error", None)
        if not given:
            return
        assignments = ", ".join(f"{column} = ?" for column in given)
        cursor = self._db.execute(
            f"UPDATE jobs SET {assignments}, updated = ? WHERE id = ?", (*given.values(), self._now(), job_id)
        )
        if not cursor.rowcount:
            raise NotFound(f"there is no job {job_id}")

    def note_progress(self, job_id: int, bytes: int, total: int | None, reason: str) -> None:
        """Progress is not synced to the disk by itself: a power cut may lose the newest of it."""
        with self._db.relaxed():
            self.update(job_id, bytes=bytes, total=total, reason=reason)

    def save_blob(self, job_id: int, data: bytes) -> None:
        """Keep what a runner needs in order to go on later (a bitmap). Durable on return; replaces what was there.

        The job's data must be on the disk before the blob that claims it.
        """
        if len(data) > MAX_BLOB:
            raise ValueError("a job's blob is too big")
        self._db.execute("INSERT OR REPLACE INTO job_blobs VALUES (?, ?)", (job_id, data))

    def load_blob(self, job_id: int) -> bytes | None:
        row = self._db.first("SELECT data FROM job_blobs WHERE job = ?", (job_id,))
        return None if row is None else bytes(row[0])

    def clear(self, older_than: float | None = None) -> int:
        """Forget finished jobs, all of them or those last changed before a time. Returns how many."""
        if older_than is None:
            return self._delete("1", ())
        return self._delete("updated < ?", (older_than,))

    def _delete(self, condition: str, values: tuple[object, ...]) -> int:
        finished = f"state IN {FINAL_STATES!r} AND {condition}"
        with self._db.transaction():
            self._db.execute(f"DELETE FROM job_blobs WHERE job IN (SELECT id FROM jobs WHERE {finished})", values)
            return self._db.execute(f"DELETE FROM jobs WHERE {finished}", values).rowcount


def _text(cid: CID | str | None) -> str | None:
    return None if cid is None else str(cid)


def _job(row: tuple[Any, ...]) -> Job:
    return Job(
        id=row[0],
        kind=row[1],
        params=from_json(row[2]),
        state=row[3],
        reason=row[4],
        bytes=row[5],
        total=row[6],
        cid=row[7],
        name=row[8],
        result=from_json(row[9]),
        error=from_json(row[10]),
        created=row[11],
        updated=row[12],
        priority=row[13],
    )
