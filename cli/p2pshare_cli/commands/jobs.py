"""jobs: durable work, which outlives the command that started it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from p2pshare_cli.context import Context, command_options
from p2pshare_cli.following import follow
from p2pshare_cli.groups import Listing
from p2pshare_cli.output import size


@click.group(cls=Listing)
def jobs() -> None:
    """Work that goes on without you: list, show, watch, pause, resume, cancel, clear."""


@jobs.command("list")
@command_options
def list_jobs(context: Context) -> None:
    """All jobs, newest last."""
    with context.node() as node:
        listed = node.call("jobs.list")["jobs"]
    for job in listed:
        context.output.event(job)
    if not listed:
        context.output.say("No jobs.")
        return
    columns = [("job", ">"), ("kind", "<"), ("state", "<"), ("done", ">"), ("name", "<"), ("reason", "<")]
    context.output.table(columns, (_row(job) for job in listed))


def _row(job: dict[str, Any]) -> list[str]:
    reason = str(job.get("reason") or "")
    return [str(job["job"]), job["kind"], job["state"], _done(job), str(job.get("name") or ""), reason]


def _done(job: dict[str, Any]) -> str:
    total = job.get("total") or 0
    return f"{100 * (job.get('bytes') or 0) // total} % of {size(total)}" if total else "-"


@jobs.command("show")
@click.argument("job", type=int)
@command_options
def show_job(context: Context, job: int) -> None:
    """One job, all of it."""
    with context.node() as node:
        about = node.call("jobs.show", job=job)
    context.output.event(about)
    for label, value in _lines(about):
        context.output.say(f"{label:<9} {value}")


def _lines(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person wants to know of a job; `--json` has the rest."""
    params, result = about.get("params") or {}, about.get("result") or {}
    yield "job", f"{about['job']}, {about['kind']}, {about['state']}"
    yield "name", str(about.get("name") or "")
    yield "done", _done(about)
    if about.get("reason"):
        yield "waits", str(about["reason"])
    yield from (("from", str(path)) for path in params.get("paths") or [])
    if params.get("link"):
        yield "link", str(params["link"])
    if result.get("link"):
        yield "link", str(result["link"])
    if result.get("path") or params.get("path"):
        yield "to" if params.get("link") else "path", str(result.get("path") or params.get("path"))
    yield "created", str(about.get("created"))
    yield "updated", str(about.get("updated"))
    error = about.get("error") or {}
    if error:
        yield "error", str(error.get("message"))
    if error.get("hint"):
        yield "", str(error["hint"])


@jobs.command("watch")
@click.argument("job", type=int)
@command_options
def watch_job(context: Context, job: int) -> None:
    """Follow a job to its end."""
    with context.node() as node:
        name = node.call("jobs.show", job=job).get("name")
        done = follow(context, node, job, str(name or f"job {job}"))
    context.output.event({**done, "event": "done", "job": job})
    what = str(done.get("link") or done.get("path") or done.get("name") or "")
    context.output.say(f"Job {job} is done: {what}")


def _act(context: Context, method: str, job: int) -> None:
    with context.node() as node:
        about = node.call(method, job=job)
    context.output.event(about)
    context.output.say(f"Job {job} is {about['state']}.")


@jobs.command("pause")
@click.argument("job", type=int)
@command_options
def pause_job(context: Context, job: int) -> None:
    """Stop a job where it is; resume goes on from there."""
    _act(context, "jobs.pause", job)


@jobs.command("resume")
@click.argument("job", type=int)
@command_options
def resume_job(context: Context, job: int) -> None:
    """Go on with a paused or failed job."""
    _act(context, "jobs.resume", job)


@jobs.command("cancel")
@click.argument("job", type=int)
@command_options
def cancel_job(context: Context, job: int) -> None:
    """End a job for good."""
    _act(context, "jobs.cancel", job)


@jobs.command("clear")
@command_options
def clear_jobs(context: Context) -> None:
    """Forget finished jobs."""
    with context.node() as node:
        cleared = node.call("jobs.clear")
    context.output.event({"event": "done", **cleared})
    context.output.say(f"{cleared.get('cleared', 0)} finished jobs forgotten.")
