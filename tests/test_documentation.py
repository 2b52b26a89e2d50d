"""What a user can type, set, call or be told must stand in the documentation."""

import re
from pathlib import Path

import click
import pytest

from p2pshare.control import reference
from p2pshare.control.methods import METHODS
from p2pshare_cli import main as cli
from p2pshare_protocols import config_schema
from p2pshare_protocols.errors import KINDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def commands(group, prefix=()):
    """Every command that can be typed, as a tuple of words, with its click object."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


def root_command():
    found = [value for value in vars(cli).values() if isinstance(value, click.Group)]
    assert found, "p2pshare_cli.main has no click group"
    return found[0]


SELF_EXPLAINING = {"lines", "sort", "limit", "priority", "wait", "hash_name"}  # their names and values say it

COMMANDS = dict(commands(root_command()))


def test_the_generated_pages_are_fresh():
    assert reference.stale() == [], "run: python -m p2pshare.control.reference"


@pytest.mark.parametrize("method", METHODS)
def test_every_control_method_is_documented(method):
    text = (DOCS / "control-api.md").read_text()
    section = text.partition(f"\n## {method}\n")[2].partition("\n## ")[0]
    assert section
    for param in METHODS[method].params:
        assert f"| `{param.name}` |" in section


@pytest.mark.parametrize("key", config_schema.KEYS)
def test_every_configuration_key_is_documented(key):
    assert f"| `{key}` |" in (DOCS / "configuration.md").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_kind_is_documented(kind):
    assert f"| `{kind}` | {KINDS[kind].exit_code} |" in (DOCS / "control-api.md").read_text()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_documented_and_its_options_have_a_help(words):
    text = (DOCS / "commands.md").read_text()
    row = re.search(rf"^\| `{words[0]}\b.*$", text, re.MULTILINE)
    assert row, f"docs/commands.md has no row for {words[0]}"
    assert re.search(rf"(?<![\w-]){re.escape(words[-1])}(?![\w-])", row[0]), f"{' '.join(words)} is not documented"
    assert COMMANDS[words].get_short_help_str(), f"{' '.join(words)} says nothing of itself"
    silent = [p.name for p in COMMANDS[words].params if isinstance(p, click.Option) and not p.help]
    assert not set(silent) - SELF_EXPLAINING, f"{' '.join(words)} has options without a help: {silent}"


def test_every_wire_protocol_is_specified_and_linked_files_exist():
    for page in (*DOCS.glob("*.md"), *(ROOT / "protocols").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
