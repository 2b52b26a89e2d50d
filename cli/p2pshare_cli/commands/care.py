"""doctor, verify, storage: whether all is well with this node and its files, and where its room goes."""

from __future__ import annotations

import os
from typing import Any

import click

from p2pshare_cli.context import Context, command_options
from p2pshare_cli.errors import CommandError
from p2pshare_cli.groups import Listing
from p2pshare_cli.output import Output, Progress, size
from p2pshare_protocols.errors import KINDS

MARKS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@command_options
def doctor(context: Context) -> None:
    """Check socket, key, ports, NAT, clock, disk, DHT and bootstrap; exit 0 only if nothing failed."""
    try:
        with context.node() as node:
            about = node.call("doctor")
    except CommandError as error:
        about = {"failed": 1, "checks": [_failed("socket", error)]}
    for check in about["checks"]:
        context.output.event(check)
        _show(context.output, check)
    failed = about["failed"]
    context.output.event({"event": "done", "failed": failed, "checks": len(about["checks"])})
    warned = sum(check["state"] == "warn" for check in about["checks"])
    context.output.say(f"{failed} failed, {warned} to look at, {len(about['checks']) - failed - warned} well.")
    if failed:
        raise click.exceptions.Exit(1)


def _failed(name: str, error: CommandError) -> dict[str, Any]:
    return {"name": name, "state": "fail", "message": error.message, "remedy": error.hint}


def _show(output: Output, check: dict[str, Any]) -> None:
    output.say(f"{check['state']:<5} {check['name']:<10} {check['message']}", colour=MARKS.get(check["state"]))
    if check.get("remedy"):
        output.say(f"{'':<17}{check['remedy']}")


@click.command()
@click.argument("target", metavar="[LINK]", required=False)
@click.option("--repair", is_flag=True, help="Fetch again what is damaged, but never your own files.")
@command_options
def verify(context: Context, target: str | None, repair: bool) -> None:
    """Read again what is shared or was fetched, and compare every byte; exit 8 if something is damaged."""
    if target is not None and os.path.exists(target):
        target = os.path.abspath(target)
    progress = Progress(context.output, "verifying")
    done: dict[str, Any] = {}
    with context.node() as node:
        for event in node.stream("verify", target=target, repair=repair):
            context.output.event(event)
            if event.get("event") == "progress":
                progress.update(int(event["bytes"]), int(event["total"]))
            elif event.get("event") == "damaged":
                context.output.say(f"{event['state']:<8} {event['path']}  ({size(event['bytes'])})")
            else:
                done = event
    context.output.clear()
    count, bad, jobs = done["items"], done["damaged"], done["repairing"]
    items = f"{count} item{'' if count == 1 else 's'}, {size(done['bytes'])}"
    context.output.say(f"{items}: {f'{bad} damaged' if bad else 'all as it should be'}.")
    if jobs:
        context.output.say(f"Fetching again as job {', '.join(map(str, jobs))}: p2pshare jobs")
    elif bad:
        context.output.note("  Share your own files again, or put them back; --repair fetches the others anew.")
    if bad:
        raise click.exceptions.Exit(KINDS["verification-failed"].exit_code)


@click.group(cls=Listing, default="show")
def storage() -> None:
    """Where the room goes: show, gc, quota."""


@storage.command("show")
@command_options
def show(context: Context) -> None:
    """What is kept, what is only referred to, and what is free."""
    with context.node() as node:
        about = node.call("storage.show")
    context.output.event(about)
    _lines(context.output, about)


@storage.command("gc")
@command_options
def collect(context: Context) -> None:
    """Drop kept blocks that belong to no item any more."""
    with context.node() as node:
        about = node.call("storage.gc")
    context.output.event({"event": "done", **about})
    context.output.say(f"{about['blocks_freed']:,} blocks dropped.")
    _lines(context.output, about)


@storage.command("quota")
@click.argument("limit", metavar="[SIZE]", required=False)
@command_options
def quota(context: Context, limit: str | None) -> None:
    """How much room copies and what is cached may take; SIZE such as 20GiB sets it, 0 is no limit."""
    from p2pshare_cli.commands.config import read, write

    if limit is None:
        context.output.event({"key": "storage.quota", "value": read("storage.quota")})
        context.output.say(str(read("storage.quota")))
        return
    write(context, "storage.quota", limit)


def _lines(output: Output, about: dict[str, Any]) -> None:
    for label, key in (("in place", "in_place"), ("copies", "copies"), ("blocks", "blocks")):
        output.say(f"{label:<9} {about[key]['count']:,}, {size(about[key]['bytes'])}")
    if about.get("quota"):
        output.say(f"quota     {size(about['quota'])} for copies and what is cached")
    output.say(f"catalogue {size(about['catalogue'])}")
    output.say(f"free      {size(about['free'])}")
