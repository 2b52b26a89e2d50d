"""Commands against scripted answers: what is asked, what is printed, what the exit code is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pshare_cli.main import COMMANDS, p2pshare
from tests.support_cli import Answers, failure, result, scripted_daemon, stream

ROW = {
    "event": "result",
    "cid": "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4",
    "link": "p2pshare:bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4/hello.txt",
    "name": "hello.txt",
    "size": 12,
    "type": "text",
    "publisher": "",
    "sources": 2,
    "tier": "peer",
    "score": 1.5,
}
DONE = {"event": "done", "results": 1, "nodes": 4, "elapsed": 0.1, "complete": True}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    monkeypatch.setenv("P2PSHARE_HOME", str(path))
    monkeypatch.setenv("NO_COLOR", "1")
    return path


def invoke(home: Path, answers: Answers, *words: str) -> tuple[Result, list[tuple[str, dict[str, object]]]]:
    with scripted_daemon(home, answers) as asked:
        done = CliRunner().invoke(p2pshare, list(words))
    return done, asked


def test_no_command_imports_trio_or_libp2p() -> None:
    program = (
        "import importlib, sys\n"
        "from p2pshare_cli.main import COMMANDS\n"
        "for module, _ in COMMANDS.values(): importlib.import_module('p2pshare_cli.commands.' + module)\n"
        "print(sorted(set(sys.modules) & {'trio', 'libp2p', 'multiaddr', 'p2pshare', 'cryptography'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_of_the_table_exists() -> None:
    done = CliRunner().invoke(p2pshare, ["--help"])
    assert done.exit_code == 0
    for name in COMMANDS:
        assert name in done.output


def test_without_a_daemon_and_no_start_the_exit_code_is_3(home: Path) -> None:
    done = CliRunner().invoke(p2pshare, ["status", "--no-start"])
    assert done.exit_code == 3
    assert "p2pshare daemon start" in done.output


def test_an_error_with_json_is_one_object_on_standard_output(home: Path) -> None:
    done = CliRunner().invoke(p2pshare, ["shares", "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout) == {
        "event": "error",
        "kind": "daemon-not-running",
        "message": f"no daemon answers at {home}/control.sock",
        "hint": "Start it with: p2pshare daemon start",
        "retryable": True,
    }


@pytest.mark.parametrize(
    ("kind", "code"),
    [("not-found", 5), ("timeout", 6), ("verification-failed", 8), ("disk-full", 9), ("exists", 11), ("usage", 2)],
)
def test_a_kind_of_error_is_its_exit_code(home: Path, kind: str, code: int) -> None:
    answers = {"shares.remove": failure(kind, "it cannot be", "do this")}
    done, _ = invoke(home, answers, "unshare", "p2pshare:x")
    assert done.exit_code == code
    assert "it cannot be" in done.output
    assert "do this" in done.output


def test_search_prints_rows_and_fetch_takes_a_row(home: Path) -> None:
    done, asked = invoke(home, {"search": stream(ROW, end=DONE)}, "search", "hello", "world wide")
    assert done.exit_code == 0
    assert asked[0][1]["query"] == 'hello "world wide"'
    assert "hello.txt" in done.output
    assert "1 result from 4 nodes" in done.output
    (home / "control.sock").unlink()
    answers = {
        "fetch.start": result({"job": 7}),
        "jobs.watch": stream(end={"event": "done", "job": 7, "path": "/tmp/hello.txt", "size": 12, "elapsed": 0.2}),
    }
    done, asked = invoke(home, answers, "fetch", "1", "-o", "/tmp/somewhere")
    assert done.exit_code == 0
    assert asked[0][1]["link"] == ROW["link"]
    assert "verified" in done.output


def test_a_row_that_was_never_there(home: Path) -> None:
    done = CliRunner().invoke(p2pshare, ["fetch", "3"])
    assert done.exit_code == 5
    assert "no row 3" in done.output


def test_explain_shows_what_makes_a_score_and_what_is_missing_is_said(home: Path) -> None:
    row = {**ROW, "why": "all words in name", "parts": {"match": 0.48, "sources": 0.1, "proof": 0.0, "crowded": -0.52}}
    end = {**DONE, "complete": False, "missing": ["dht: 2 of 3 nodes did not answer"]}
    done, _ = invoke(home, {"search": stream(row, end=end)}, "search", "hello", "--explain")
    assert "all words in name · match 0.48 + sources 0.10 - crowded 0.52" in done.output
    assert "Not all: dht: 2 of 3 nodes did not answer." in done.output


def test_nothing_found_is_exit_code_5(home: Path) -> None:
    done, _ = invoke(home, {"search": stream(end={**DONE, "results": 0})}, "search", "nothing")
    assert done.exit_code == 5
    assert "0 results" in done.output


def test_a_minus_word_reaches_the_query(home: Path) -> None:
    _, asked = invoke(home, {"search": stream(ROW, end=DONE)}, "search", "raft", "-draft", "--type", "video")
    assert asked[0][1]["query"] == "raft -draft"
    assert asked[0][1]["type"] == "video"


def test_a_strangers_name_cannot_steer_the_terminal(home: Path) -> None:
    evil = {**ROW, "name": "a\x1b]0;owned\x07\u202egpj.exe\nsecond line"}
    done, _ = invoke(home, {"search": stream(evil, end=DONE)}, "search", "a")
    for character in ("\x1b", "\x07", "\u202e"):
        assert character not in done.output
    assert sum("second line" in line for line in done.output.splitlines()) == 1
    assert not any(line.startswith("second line") for line in done.output.splitlines())


def test_share_sends_absolute_paths_and_reports(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("x")
    item = {
        "event": "done",
        "cid": ROW["cid"],
        "link": ROW["link"],
        "name": "x.txt",
        "size": 1,
        "files": 1,
        "path": str(file),
        "findable": {"stored": 3, "asked": 4},
        "postings": {"stored": 0, "asked": 0},
    }
    status = {"reachable": "unknown", "addresses": ["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW"]}
    answers = {"share.start": result({"job": 1}), "jobs.watch": stream(end=item), "status": result(status)}
    done, asked = invoke(home, answers, "share", os.path.relpath(file), "--tag", "one", "--tag", "two")
    assert done.exit_code == 0
    assert asked[0][1]["paths"] == [str(file)]
    assert asked[0][1]["tags"] == ["one", "two"]
    assert str(ROW["link"]) in done.output
    assert "3 of 4 nodes" in done.output


def test_json_of_fetch_is_progress_then_done(home: Path) -> None:
    answers = {
        "fetch.start": result({"job": 7}),
        "jobs.watch": stream(
            {"event": "progress", "job": 7, "bytes": 5, "total": 12, "rate": 5.0, "sources": 1},
            end={
                "event": "done",
                "job": 7,
                "cid": ROW["cid"],
                "path": "/tmp/h",
                "size": 12,
                "elapsed": 1,
                "sources": 1,
            },
        ),
    }
    done, _ = invoke(home, answers, "fetch", str(ROW["link"]), "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["progress", "done"]
    assert lines[0] == {"event": "progress", "job": 7, "bytes": 5, "total": 12, "rate": 5.0, "sources": 1}
    assert lines[1]["path"] == "/tmp/h"


def test_call_takes_json_or_pairs(home: Path) -> None:
    _, asked = invoke(home, {"jobs.show": result({"job": 7})}, "call", "jobs.show", "job=7")
    assert asked == [("jobs.show", {"job": 7})]
    (home / "control.sock").unlink()
    done, asked = invoke(home, {"jobs.show": result({"job": 7})}, "call", "jobs.show", '{"job": 8}')
    assert asked == [("jobs.show", {"job": 8})]
    assert json.loads(done.stdout) == {"job": 7}


def test_a_daemon_that_dies_in_mid_answer_is_an_error_not_a_hang(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_params: dict[str, object]) -> list[dict[str, object]]:
        raise ConnectionAbortedError

    monkeypatch.setattr(threading, "excepthook", lambda _args: None)
    done, _ = invoke(home, {"status": gone}, "status")
    assert done.exit_code == 3
    assert "closed the connection" in done.output
