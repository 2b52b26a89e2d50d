"""The publisher's key on its way to another machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pshare.identity import load_or_create
from p2pshare_cli.main import p2pshare


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    monkeypatch.setenv("P2PSHARE_HOME", str(path))
    return path


def invoke(*words: str) -> Result:
    return CliRunner().invoke(p2pshare, ["id", *words])


def test_a_key_goes_to_a_new_machine_and_is_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    name = load_or_create(home / "publisher.key").peer_id
    os.umask(os.umask(0))
    assert invoke("export-publisher", str(tmp_path / "key.pem")).exit_code == 0
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    monkeypatch.setenv("P2PSHARE_HOME", str(tmp_path / "new"))
    assert invoke("import-publisher", str(tmp_path / "key.pem")).exit_code == 0
    assert load_or_create(tmp_path / "new" / "publisher.key").peer_id == name


def test_nothing_is_replaced_without_force(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    old = load_or_create(home / "publisher.key").peer_id
    new = load_or_create(tmp_path / "other.key").peer_id
    refused = invoke("import-publisher", str(tmp_path / "other.key"))
    assert refused.exit_code == 11
    assert "--force" in refused.output
    assert load_or_create(home / "publisher.key").peer_id == old
    assert invoke("export-publisher", str(tmp_path / "other.key")).exit_code == 11
    assert invoke("import-publisher", str(tmp_path / "other.key"), "--force").exit_code == 0
    assert load_or_create(home / "publisher.key").peer_id == new
    assert sorted(path.name for path in home.iterdir()) == ["publisher.key"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n",
        b"\xff" * 5000,
    ],
)
def test_what_is_no_key_is_not_imported(home: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    assert invoke("import-publisher", str(tmp_path / "f")).exit_code == 2
    assert not (home / "publisher.key").exists()


def test_what_is_not_there_is_said(home: Path, tmp_path: Path) -> None:
    assert invoke("export-publisher", str(tmp_path / "f")).exit_code == 5
    assert invoke("import-publisher", str(tmp_path / "f")).exit_code == 5
    assert invoke("import-publisher", "/dev/null").exit_code == 2
