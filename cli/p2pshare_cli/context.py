"""What every command shares: its options, its output, and the way to a running daemon."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import click

from p2pshare_cli.client import Client
from p2pshare_cli.errors import CommandError
from p2pshare_cli.launch import autostart_wanted, start_daemon
from p2pshare_cli.output import Output

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Context:
    """One command's run."""

    output: Output = field(default_factory=Output)
    may_start: bool = True

    def node(self, *, start: bool = False) -> Client:
        """A connected client. `start`: this command may start the daemon when it is not running."""
        client = Client()
        try:
            client.connect()
        except CommandError as error:
            if error.kind != "daemon-not-running" or not start or not self.may_start or not autostart_wanted():
                raise
            start_daemon(self.output)
            client.connect()
        return client


def command_options(function: F) -> F:
    """--json, --quiet and --no-start, which every command takes; the function gets a Context first."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
    @click.option("--quiet", "-q", is_flag=True, help="Results only, no progress.")
    @click.option("--no-start", is_flag=True, help="Do not start the daemon; exit 3 when it is not running.")
    @functools.wraps(function)
    def wrapper(*args: Any, as_json: bool, quiet: bool, no_start: bool, **kwargs: Any) -> Any:
        context = Context(Output(as_json=as_json, quiet=quiet), may_start=not no_start)
        try:
            return function(context, *args, **kwargs)
        except CommandError as error:
            context.output.error(error)
            raise click.exceptions.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            context.output.clear()
            raise click.exceptions.Exit(130) from None

    return cast(F, wrapper)
