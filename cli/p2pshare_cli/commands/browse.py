"""browse: what one peer shares, numbered so that `fetch N` and `show N` take it."""

from __future__ import annotations

from typing import Any

import click

from p2pshare_cli import rows
from p2pshare_cli.context import Context, command_options
from p2pshare_cli.output import size


@click.command()
@click.argument("peer", metavar="PEER")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@click.option("--after", type=click.IntRange(0), default=0, help="Go on where the last time ended.")
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=30.0, show_default=True, help="Seconds.")
@command_options
def browse(context: Context, peer: str, **options: Any) -> None:
    """What a peer shares in public. PEER is a peer ID, part of a connected one's, or a multiaddr."""
    found: list[dict[str, Any]] = []
    done: dict[str, Any] = {}
    with context.node(start=True) as node:
        for event in node.stream("browse", peer=peer, **options):
            context.output.event(event)
            if event.get("event") == "result":
                found.append(event)
                context.output.status_line(f"{len(found)} items…")
            elif event.get("event") == "done":
                done = event
    rows.remember([row["link"] for row in found])
    context.output.clear()
    columns = [("#", ">"), ("name", "<"), ("size", ">"), ("type", "<"), ("tags", "<")]
    if found:
        context.output.table(columns, (_row(number, row) for number, row in enumerate(found, 1)))
    more = "" if done.get("complete", True) else f"  There is more: --after {done.get('after')}"
    context.output.say(f"{len(found)} item{'' if len(found) == 1 else 's'}.{more}")


def _row(number: int, row: dict[str, Any]) -> list[str]:
    name = str(row.get("name", "")) + ("/" if row.get("kind") == "directory" else "")
    tags = ", ".join(str(tag) for tag in row.get("tags") or [])
    return [str(number), name, size(row.get("size")), str(row.get("type", "")), tags]
