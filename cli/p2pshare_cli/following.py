"""Following a job from the command line: progress, reasons, the end; Ctrl-C leaves the job running."""

from __future__ import annotations

from typing import Any

import click

from p2pshare_cli.client import Client
from p2pshare_cli.context import Context
from p2pshare_cli.errors import CommandError
from p2pshare_cli.output import Progress


def follow(context: Context, node: Client, job: int, label: str, *, foreground: bool = False) -> dict[str, Any]:
    """Watch a job to its end and return its `done` event.

    Ctrl-C leaves the job to the daemon and says how to come back to it, unless it was started with
    `--foreground`: then it is cancelled. Raises CommandError when the job fails.
    """
    progress = Progress(context.output, label)
    last: dict[str, Any] = {}
    try:
        for event in node.watch(job):
            last = event
            _show(context, progress, event, job)
    except KeyboardInterrupt:
        context.output.clear()
        if foreground:
            with Client() as other:
                other.call("jobs.cancel", job=job)
            context.output.note(f"Cancelled job {job}.")
        else:
            context.output.note(f"Job {job} goes on. Come back to it with: p2pshare jobs watch {job}")
        raise click.exceptions.Exit(130) from None
    except CommandError as error:
        if error.kind == "daemon-not-running":
            error.hint = f"Job {job} goes on when it runs again: p2pshare daemon start, p2pshare jobs watch {job}"
        raise
    context.output.clear()
    return last


def _show(context: Context, progress: Progress, event: dict[str, Any], job: int) -> None:
    what = event.get("event")
    if what == "progress":
        context.output.event({"event": "progress", "job": job, **_plain(event)})
        progress.update(
            int(event.get("bytes") or 0),
            int(event.get("total") or 0),
            rate=event.get("rate"),
            sources=event.get("sources"),
        )
    elif what == "state":
        context.output.event({**event, "job": job})
    if event.get("reason"):
        progress.reason(str(event["reason"]))


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("event", "job")}
