"""The command line's table of contents. Commands are imported when they are called, so that each starts fast."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from p2pshare_cli.groups import Group

# name -> (module under p2pshare_cli.commands, attribute)
COMMANDS: dict[str, tuple[str, str]] = {
    "share": ("share", "share"),
    "unshare": ("share", "unshare"),
    "shares": ("share", "shares"),
    "search": ("search", "search"),
    "watches": ("watches", "watches"),
    "browse": ("browse", "browse"),
    "fetch": ("fetch", "fetch"),
    "show": ("share", "show"),
    "jobs": ("jobs", "jobs"),
    "status": ("status", "status"),
    "peers": ("status", "peers"),
    "id": ("id", "show_id"),
    "doctor": ("care", "doctor"),
    "verify": ("care", "verify"),
    "storage": ("care", "storage"),
    "daemon": ("daemon", "daemon"),
    "config": ("config", "config"),
    "call": ("status", "call"),
    "events": ("status", "events"),
    "completion": ("completion", "completion"),
}


class Commands(Group):
    """Loads a command's module when it is needed, in the order of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"p2pshare_cli.commands.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"p2pshare {version('p2pshare')}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def p2pshare() -> None:
    """Share files from where they lie, find them by words, fetch them from many at once. No server.

    P2PSHARE_HOME=DIR keeps a node's files under DIR: a second node is a second directory.
    """


def main(arguments: Sequence[str] | None = None) -> Any:
    """The console script. Exit codes: EXPERIENCE, "Exit codes"; click's own usage errors are 2 as well."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    return p2pshare(args=arguments, prog_name="p2pshare")
