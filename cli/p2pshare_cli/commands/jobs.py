"""jobs: durable work, which outlives the command that started it."""

from __future__ import annotations

from typing import Any

import click

from p2pshare_cli.context import Context, command_options
from p2pshare_cli.following import follow
from p2pshare_cli.output import size


@click.group(invoke_without_command=True)
@click.pass_context
def jobs(click_context: click.Context) -> None:
    """Work that goes on without you: list, show, watch, pause, resume, cancel, clear."""
    if click_context.invoked_subcommand is None:
        click_context.invoke(list_jobs, as_json=False, quiet=False, no_start=False)


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
    total = job.get("total") or 0
    done = f"{100 * (job.get('bytes') or 0) // total} % of {size(total)}" if total else "-"
    reason = str(job.get("reason") or "")
    return [str(job["job"]), job["kind"], job["state"], done, str(job.get("name") or ""), reason]


@jobs.command("show")
@click.argument("job", type=int)
@command_options
def show_job(context: Context, job: int) -> None:
    """One job, all of it."""
    with context.node() as node:
        about = node.call("jobs.show", job=job)
    context.output.event(about)
    for key, value in about.items():
        context.output.say(f"{key:<10} {value}")


@jobs.command("watch")
@click.argument("job", type=int)
@command_options
def watch_job(context: Context, job: int) -> None:
    """Follow a job to its end."""
    with context.node() as node:
        done = follow(context, node, job, f"job {job}")
    context.output.event({**done, "event": "done", "job": job})
    context.output.say(f"Job {job} is done: {done.get('path') or done.get('link') or done.get('name') or ''}")


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
