"""`config` keeps a person's file as it is, but for the key that was set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pshare_cli.main import p2pshare


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PSHARE_HOME", str(tmp_path))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(p2pshare, ["config", *words])


def test_set_keeps_comments_and_order(home: Path) -> None:
    (home / "config.toml").write_text('# mine\n[log]\nlevel = "info"  # why not\n\n[limits]\nconnections = 100\n')
    assert run("set", "log.level", "debug").exit_code == 0
    assert (home / "config.toml").read_text() == (
        '# mine\n[log]\nlevel = "debug"  # why not\n\n[limits]\nconnections = 100\n'
    )


def test_set_makes_the_file_and_get_reads_it(home: Path) -> None:
    assert run("set", "network.bootstrap", "[]").exit_code == 0
    assert run("set", "limits.upload", "80MB").exit_code == 0
    got = json.loads(run("get", "limits.upload", "--json").stdout)
    assert got == {"key": "limits.upload", "value": 80_000_000}


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("network.lisen", "[]", "network.listen"),
        ("log.level", "loud", "debug"),
        ("limits.connections", "-1", "limits.connections"),
        ("network.bootstrap", '["/ip4/1.2.3.4/tcp/1"]', "PEER_ID"),
    ],
)
def test_a_wrong_key_or_value_changes_nothing(home: Path, key: str, value: str, part: str) -> None:
    done = run("set", key, "--", value)
    assert done.exit_code == 2
    assert part in done.output
    assert not (home / "config.toml").exists()


def test_unset_gives_the_default_back(home: Path) -> None:
    run("set", "log.level", "debug")
    assert run("unset", "log.level").exit_code == 0
    assert json.loads(run("get", "log.level", "--json").stdout)["value"] == "info"
    assert run("unset", "log.level").exit_code == 5


def test_list_marks_what_the_file_sets(home: Path) -> None:
    run("set", "log.level", "debug")
    lines = {line["key"]: line for line in map(json.loads, run("list", "--json").stdout.splitlines())}
    assert lines["log.level"]["source"] == "file"
    assert lines["limits.upload"]["source"] == "default"


def test_a_file_that_is_not_toml_is_named(home: Path) -> None:
    (home / "config.toml").write_text("[log\n")
    done = run("get", "log.level")
    assert done.exit_code == 2
    assert "config.toml" in done.output
