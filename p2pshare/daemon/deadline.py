"""The end comes in time: what does not stop is named in the log, cancelled, and at last left behind."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import trio

logger = logging.getLogger(__name__)

REQUESTS_TIME = 0.5  # seconds for the requests in flight to end, before the node closes under them
CLOSE_TIME = 2.5  # seconds for the node to close by itself
HARD_STOP = 4.5  # seconds after which the process ends, whatever is stuck
STUCK_EXIT = 1


@contextmanager
def bounded_stop() -> Iterator[None]:
    """While this is open, the process ends within HARD_STOP, whatever hangs: also when the event loop does."""
    timer = threading.Timer(HARD_STOP, _leave)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def name_stuck_tasks() -> None:
    """Log where each task of this trio run waits."""
    for task in _tasks():
        logger.warning("still running: %s in %s", task.name, _place(task))


def _tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        if task is not trio.lowlevel.current_task():
            yield task
        waiting.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)


def _place(task: trio.lowlevel.Task) -> str:
    """The innermost frame of ours in a task's chain of awaits, as file:line."""
    places = [
        f"{frame.f_code.co_filename.rpartition('/')[2]}:{line} {frame.f_code.co_name}"
        for frame, line in task.iter_await_frames()
        if f"{os.sep}trio{os.sep}" not in frame.f_code.co_filename
    ]
    return places[-1] if places else "nothing of ours"


def _leave() -> None:
    """In the timer's thread: the event loop itself does not turn any more, or a shielded wait has no end."""
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    where = "".join(traceback.format_stack(main)[-6:]) if main is not None else "?"
    logger.error("the daemon did not stop within %g s and is ended; the main thread is at: %s", HARD_STOP, where)
    logging.shutdown()
    os._exit(STUCK_EXIT)
