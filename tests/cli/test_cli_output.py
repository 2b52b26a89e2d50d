"""How lines fit a terminal, and that nothing of a name is lost or let through."""

from __future__ import annotations

import json

import pytest

from p2pshare_cli import output as module
from p2pshare_cli.groups import behind
from p2pshare_cli.output import Output, Progress, size_of
from p2pshare_cli.reach import reach
from p2pshare_cli.width import cut, pad, width


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("한글", 4), ("e\N{COMBINING ACUTE ACCENT}", 1), ("ＡＢ", 4), ("", 0), ("a…", 2)]
)
def test_width_in_columns(text: str, columns: int) -> None:
    assert width(text) == columns


def test_cutting_and_padding_count_columns_not_characters() -> None:
    assert cut("한글한글", 5) == "한글…"
    assert cut("abc", 3) == "abc"
    assert pad("한글", 6) + "|" == "한글  |"
    assert pad("7", 3, ">") == "  7"


def test_a_table_gives_way_in_its_text_columns_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Output, "columns", 30)
    Output().table([("size", ">"), ("name", "<")], [["1234567890 B", "n" * 40], ["1 B", "한" * 30]])
    lines = capsys.readouterr().out.splitlines()
    assert all(width(line) <= 30 for line in lines)
    assert lines[1].startswith("1234567890 B  n")
    assert lines[1].endswith("…")


def test_without_a_terminal_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table([("name", "<")], [["n" * 300]])
    assert "n" * 300 in capsys.readouterr().out


def test_a_hostile_name_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.say("Shared \x1b[2J\rname")
    output.note("left out \x1b]0;x\x07")
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


def test_json_keeps_the_bytes_of_a_name_that_is_not_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).event({"path": "/caf\udce9", "name": "한"})
    assert json.loads(capsys.readouterr().out) == {"path": "/caf\udce9", "name": "한"}


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120])
def test_progress_fits_whatever_the_width(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(module, "error_columns", lambda: columns)
    shown: list[str] = []
    output = Output()
    monkeypatch.setattr(output, "status_line", shown.append)
    times = iter([0.0, 0.0, 5.0])
    progress = Progress(output, "회의록 " * 20, clock=lambda: next(times))
    progress.update(0, 300_000_000, rate=2e7, sources=3)
    progress.update(150_000_000, 300_000_000, rate=2e7, sources=3)
    [line] = shown
    assert width(line) < columns or columns == 20
    assert "50 %" in line
    assert ("3 sources" in line) == (columns == 120)


def test_reasons_without_a_terminal_are_a_line_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    output = Output()
    monkeypatch.setattr(output, "note", said.append)
    times = iter(range(0, 100, 2))
    progress = Progress(output, "x", clock=lambda: next(times))
    for text in ("retry in 30 s", "retry in 29 s", "", "1 source, waiting", "retry in 30 s"):
        progress.reason(text)
    assert said == ["retry in 30 s", "1 source, waiting", "retry in 30 s"]


def test_sizes_share_their_unit() -> None:
    assert size_of(47 << 20, 286 << 20) == "47.0/286.0 MiB"
    assert size_of(5, 286 << 20) == "5 B/286.0 MiB"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--json", "jobs"], ["jobs", "--json"]),
        (["-q", "--json", "show", "7"], ["show", "7", "-q", "--json"]),
        (["search", "--json"], ["search", "--json"]),
        (["--json"], ["--json"]),
    ],
)
def test_common_flags_may_stand_in_front(given: list[str], read: list[str]) -> None:
    assert behind(given) == read


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"addresses": []}, "nowhere"),
        ({"addresses": ["/ip4/127.0.0.1/tcp/4001/p2p/x"], "reachable": "unknown"}, "this machine only (tcp 4001)"),
        ({"addresses": ["/ip4/192.0.2.7/tcp/4001/p2p/x"], "reachable": "direct"}, "direct (tcp 4001)"),
        ({"addresses": ["/ip4/192.0.2.7/tcp/4001/p2p/x"], "reachable": "no"}, "forward the port"),
        ({"state": "starting"}, "starting"),
    ],
)
def test_reach_in_words(about: dict[str, object], says: str) -> None:
    assert says in reach(about)
