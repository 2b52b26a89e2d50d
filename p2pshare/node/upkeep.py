"""What the catalogue needs now and then, whatever else goes on."""

from __future__ import annotations

import logging
import os
from typing import Final

import trio

from p2pshare.content import copies
from p2pshare.content.publisher import drop_owner
from p2pshare.errors import LocalError, NotFound
from p2pshare.publish import MAX_PATHS
from p2pshare.store import Store

INTERVAL: Final = 120.0  # seconds
ENDED: Final = ("done", "cancelled")  # a failed job can be resumed
_log = logging.getLogger(__name__)


async def keep_up(store: Store) -> None:
    """Finish removals, keep the quota, write counters, remake the ballast; at the start and every two minutes, until
    cancelled. At the start, what a crash left of jobs and copies goes too."""
    try:
        await tidy(store)
    except LocalError as error:
        _log.warning("what a crash may have left could not be looked for: %s", error)
    while True:
        try:
            store.maintain()
        except LocalError as error:
            _log.warning("the catalogue could not be tidied: %s", error)
        await trio.sleep(INTERVAL)


async def tidy(store: Store) -> None:
    """Drop what jobs recorded that have ended or are forgotten, and kept copies that belong to no item and no job."""
    for number in store.unfinished():
        if _is_over(store, number):
            drop_owner(store, -number)
            await trio.lowlevel.checkpoint()
    home = str(store.directory)
    kept = {os.path.dirname(item.path) for item in store.items.list() if item.path and copies.is_copy(home, item.path)}
    for number in await trio.to_thread.run_sync(copies.numbers, home):
        directory = copies.directory_of(home, number)
        if directory not in kept and _is_over(store, number // MAX_PATHS):
            _log.info("the copy in %s belongs to nothing any more", directory)
            await trio.to_thread.run_sync(copies.remove_directory, directory)


def _is_over(store: Store, job_id: int) -> bool:
    try:
        return store.jobs.get(job_id).state in ENDED
    except NotFound:
        return True
