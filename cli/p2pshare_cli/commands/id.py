"""id: who this node is, and the key under which its user publishes."""

from __future__ import annotations

import os
from typing import Any

import click

from p2pshare_cli import publisher_key
from p2pshare_cli.client import Client
from p2pshare_cli.context import Context, command_options
from p2pshare_cli.errors import CommandError
from p2pshare_cli.groups import Listing
from p2pshare_cli.home import find_places


class _Showing(Listing):
    """`id` alone is `id show`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, default="show", **options)


@click.group("id", cls=_Showing)
def show_id() -> None:
    """Peer ID and addresses; export-publisher and import-publisher carry the publisher's key."""


@show_id.command()
@command_options
def show(context: Context) -> None:
    """Peer ID and addresses; a line is what another machine's --peer takes."""
    with context.node(start=True) as node:
        about = node.call("id")
    context.output.event(about)
    for address in about["addresses"] or [f"/p2p/{about['peer_id']}"]:
        context.output.say(address)
    if about.get("publisher"):
        context.output.note(f"publishes as {about['publisher']}")


@show_id.command("export-publisher")
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace the file when there is one.")
@command_options
def export_publisher(context: Context, file: str, force: bool) -> None:
    """Write the key that signs what you share to FILE (mode 0600). Whoever has it publishes in your name."""
    missing = "It is made when the daemon first starts: p2pshare daemon start"
    publisher_key.copy(find_places().publisher_key, os.path.abspath(file), force=force, missing=missing)
    context.output.event({"event": "done", "path": os.path.abspath(file)})
    context.output.say(f"Wrote {file}. Keep it private; on the other machine: p2pshare id import-publisher FILE")


@show_id.command("import-publisher")
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace this machine's key; what it signed is signed anew.")
@command_options
def import_publisher(context: Context, file: str, force: bool) -> None:
    """Publish under the key in FILE from the daemon's next start on."""
    places = find_places()
    os.makedirs(places.data, mode=0o700, exist_ok=True)
    publisher_key.copy(os.path.abspath(file), places.publisher_key, force=force, missing="Check the path.")
    running = _is_running()
    context.output.event({"event": "done", "path": places.publisher_key, "restart": running})
    after = " It takes effect when the daemon starts anew: p2pshare daemon restart" if running else ""
    context.output.say(f"This machine publishes under the key of {file}.{after}")


def _is_running() -> bool:
    client = Client()
    try:
        client.connect()
    except CommandError:
        return False
    client.close()
    return True
