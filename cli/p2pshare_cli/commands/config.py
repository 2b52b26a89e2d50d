"""config: get, set, unset, list, edit, path. The file is the user's own: comments and order stay."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import click
import tomlkit
from tomlkit.exceptions import TOMLKitError

from p2pshare_cli.client import Client
from p2pshare_cli.context import Context, command_options
from p2pshare_cli.errors import CommandError
from p2pshare_cli.groups import Listing
from p2pshare_cli.home import find_places
from p2pshare_protocols import config_schema


@click.group(cls=Listing)
def config() -> None:
    """What can be set, and what is set."""


def _document() -> tomlkit.TOMLDocument:
    path = Path(find_places().config_file)
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise CommandError("config", f"{path} is not TOML: {error}", "Mend it with: p2pshare config edit") from None
    except OSError as error:
        raise CommandError("permission", f"could not read {path}: {error.strerror}") from None


def _checked(document: tomlkit.TOMLDocument) -> dict[str, config_schema.Value]:
    try:
        return config_schema.parse(document.unwrap())
    except config_schema.ConfigProblem as problem:
        raise CommandError("config", problem.message, problem.hint) from None


def _write(text: str) -> None:
    """Replace the file in one step, so that a crash leaves the old or the new one."""
    path = Path(find_places().config_file)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
            sink.write(text)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(fresh, path)
    except OSError as error:
        Path(fresh).unlink(missing_ok=True)
        raise CommandError("failed", f"could not write {path}: {error.strerror}") from None


def _known(name: str) -> config_schema.Key:
    try:
        return config_schema.key_named(name)
    except config_schema.ConfigProblem as problem:
        raise CommandError("config", problem.message, problem.hint) from None


def _after_change(context: Context) -> None:
    try:
        with Client(timeout=5) as node:
            node.call("ping")
    except CommandError:
        return
    context.output.note("The running daemon takes it at its next start: p2pshare daemon restart")


@config.command("path")
@command_options
def show_path(context: Context) -> None:
    """Where the file is."""
    path = find_places().config_file
    context.output.event({"path": path})
    context.output.say(path)


@config.command("list")
@command_options
def list_keys(context: Context) -> None:
    """Every key with its value; * marks what the file sets."""
    given = _checked(_document())
    for name, key in config_schema.KEYS.items():
        value = given.get(name, key.default)
        source = "file" if name in given else "default"
        context.output.event({"key": name, "value": value, "default": key.default, "source": source, "doc": key.doc})
        mark = "*" if name in given else " "
        context.output.say(f"{mark} {name} = {config_schema.show(value)}")


@config.command("get")
@click.argument("key")
@command_options
def get_key(context: Context, key: str) -> None:
    """One value, as TOML writes it."""
    value = read(key)
    context.output.event({"key": key, "value": value})
    context.output.say(config_schema.show(value))


@config.command("set")
@click.argument("key")
@click.argument("value")
@command_options
def set_key(context: Context, key: str, value: str) -> None:
    """Set a key; VALUE as TOML writes it, plain words need no quotes."""
    write(context, key, value)


def read(key: str) -> config_schema.Value:
    """What the file says, or the default. Raises CommandError for a key that does not exist."""
    return _checked(_document()).get(key, _known(key).default)


def write(context: Context, key: str, value: str) -> None:
    """Check and set one key in the file. Raises CommandError."""
    try:
        config_schema.parse_value(key, value)
    except config_schema.ConfigProblem as problem:
        raise CommandError("config", problem.message, problem.hint) from None
    document = _document()
    section, _, name = key.partition(".")
    table = document.setdefault(section, tomlkit.table())
    table[name] = _as_toml(value)
    _checked(document)
    _write(tomlkit.dumps(document))
    context.output.event({"event": "done", "key": key})
    _after_change(context)


def _as_toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


@config.command("unset")
@click.argument("key")
@command_options
def unset_key(context: Context, key: str) -> None:
    """Back to the default."""
    _known(key)
    document = _document()
    section, _, name = key.partition(".")
    table = document.get(section)
    if not isinstance(table, dict) or name not in table:
        raise CommandError("not-found", f"{key} is not set in the file", "p2pshare config list shows what is.")
    del table[name]
    if not table:
        del document[section]
    _write(tomlkit.dumps(document))
    context.output.event({"event": "done", "key": key})
    _after_change(context)


@config.command("edit")
@command_options
def edit_file(context: Context) -> None:
    """Open the file in $EDITOR; what is wrong is not saved."""
    before = tomlkit.dumps(_document())
    after = click.edit(before, extension=".toml")
    if after is None or after == before:
        context.output.note("Nothing changed.")
        return
    try:
        document = tomlkit.parse(after)
    except TOMLKitError as error:
        raise CommandError("config", f"that is not TOML: {error}", "Nothing was saved.") from None
    _checked(document)
    _write(after)
    _after_change(context)
