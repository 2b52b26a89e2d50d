"""Durable work (share, fetch, announce …), and following events. The catalogue keeps it; this runs it.

It may use the store and errors. It must not know what a runner does, nor how clients are spoken to.
"""

from p2pshare.jobs.failure import cause, describe_error, leaves
from p2pshare.jobs.feed import Feed, Follower, as_dict
from p2pshare.jobs.handle import JobHandle, describe
from p2pshare.jobs.manager import JobManager, Runner
from p2pshare.jobs.watch import Watch

__all__ = [
    "Feed",
    "Follower",
    "JobHandle",
    "JobManager",
    "Runner",
    "Watch",
    "as_dict",
    "cause",
    "describe",
    "describe_error",
    "leaves",
]
