"""Groups of commands that take the common flags in front too, and that list when nothing else is said."""

from __future__ import annotations

from typing import Any

import click

COMMON = frozenset(("--json", "--quiet", "-q", "--no-start"))


def behind(arguments: list[str]) -> list[str]:
    """Common flags that stand before the command's name, moved behind it: `--json jobs` is `jobs --json`."""
    count = 0
    while count < len(arguments) and arguments[count] in COMMON:
        count += 1
    return [*arguments[count:], *arguments[:count]] if count < len(arguments) else arguments


class Group(click.Group):
    """A group whose common flags may stand anywhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, behind(args))


class Listing(Group):
    """A group with a command that is meant when only flags are given: `jobs --json` is `jobs list --json`."""

    def __init__(self, *args: Any, default: str = "list", **options: Any) -> None:
        super().__init__(*args, **options)
        self._default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if all(word in COMMON for word in args):
            args = [self._default, *args]
        return super().parse_args(ctx, args)
