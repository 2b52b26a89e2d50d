"""watches: searches that the daemon keeps going; `search --watch` begins one."""

from __future__ import annotations

from typing import Any

import click

from p2pshare_cli import rows
from p2pshare_cli.client import Client
from p2pshare_cli.context import Context, command_options
from p2pshare_cli.errors import CommandError
from p2pshare_cli.groups import Listing
from p2pshare_cli.output import size


@click.group("watches", cls=Listing)
def watches() -> None:
    """Searches that go on without you: list, follow, remove."""


@watches.command("list")
@command_options
def list_watches(context: Context) -> None:
    """What is watched."""
    with context.node() as node:
        listed = node.call("watch.list")["watches"]
    for watch in listed:
        context.output.event(watch)
    if not listed:
        context.output.say("Nothing is watched. Begin with: p2pshare search WORD… --watch")
        return
    columns = [("watch", ">"), ("query", "<"), ("found", ">"), ("last asked", "<")]
    context.output.table(columns, (_row(watch) for watch in listed))


def _row(watch: dict[str, Any]) -> list[str]:
    filters = [f"{key}:{value}" for key, value in (watch.get("filters") or {}).items()]
    query = " ".join([str(watch["query"]), *filters])
    return [str(watch["watch"]), query, str(watch.get("found", 0)), str(watch.get("asked") or "not yet")]


@watches.command("follow")
@click.argument("watch", type=int)
@command_options
def follow_watch(context: Context, watch: int) -> None:
    """What a watch has found so far, and finds, until Ctrl-C."""
    with context.node() as node:
        listed = node.call("watch.list")["watches"]
        since = next((one["since"] for one in listed if one["watch"] == watch), None)
        if since is None:
            raise CommandError("not-found", f"there is no watch {watch}", "p2pshare watches lists them.")
        follow(context, node, watch, since, [])


@watches.command("remove")
@click.argument("watch", type=int)
@command_options
def remove_watch(context: Context, watch: int) -> None:
    """End a watch."""
    with context.node() as node:
        about = node.call("watch.remove", watch=watch)
    context.output.event({"event": "done", **about})
    context.output.say(f"Watch {watch} is over.")


def goes_on(watch: int) -> str:
    return f"Watch {watch} goes on when you leave; p2pshare watches remove {watch} ends it."


def follow(context: Context, node: Client, watch: int, since: int, links: list[str]) -> None:
    """Show what is not in `links` yet, numbered behind them, until it is interrupted."""
    for event in node.stream("events", topics=["search"], since=since):
        if event.get("watch") != watch or event.get("event") != "result" or event["link"] in links:
            continue
        links.append(event["link"])
        rows.remember(links)
        context.output.event(event)
        shown = [str(len(links)), str(event.get("name", "")), size(event.get("size")), f"{event.get('sources', 0)} up"]
        context.output.say("  ".join(shown))
