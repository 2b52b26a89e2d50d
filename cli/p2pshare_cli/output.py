"""How results, waits and errors look: for a person on a terminal, for a pipe, and for a script (`--json`).

Results go to standard output; progress, waits and errors of the human form go to standard error, so that
`p2pshare shares | grep` and `fetch -o -` carry nothing else. With `--json` everything is one object a line on
standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from p2pshare_cli.errors import CommandError
from p2pshare_protocols.text import clean

BAR_WIDTH = 20
REFRESH = 0.1  # seconds between two pictures of a progress line
PATIENCE = 1.0  # seconds: what takes longer shows progress


class Output:
    """The one place that prints."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() and not as_json and os.environ.get("TERM") != "dumb"
        self.colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not as_json
        self._line_width = 0

    def event(self, body: Mapping[str, Any]) -> None:
        """One JSON line; nothing unless `--json`."""
        if self.as_json:
            click.echo(json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "replace").decode())

    def say(self, text: str = "", *, bold: bool = False) -> None:
        """A line of a result; nothing with `--json`."""
        if self.as_json:
            return
        self.clear()
        click.echo(click.style(text, bold=True) if bold and self.colour else _printable(text))

    def note(self, text: str) -> None:
        """A line about what is going on, for a person; nothing with `--json` or `--quiet`."""
        if self.as_json or self.quiet:
            return
        self.clear()
        click.echo(_printable(text), err=True)

    def status_line(self, text: str) -> None:
        """A line that the next one overwrites; on a terminal only."""
        if not self.terminal or self.quiet:
            return
        width = os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 80
        shown = _printable(text)[: max(10, width - 1)]
        sys.stderr.write("\r" + shown + " " * max(0, self._line_width - len(shown)))
        sys.stderr.flush()
        self._line_width = len(shown)

    def clear(self) -> None:
        if self._line_width:
            sys.stderr.write("\r" + " " * self._line_width + "\r")
            sys.stderr.flush()
            self._line_width = 0

    def error(self, error: CommandError) -> None:
        """What happened and what to do; the exit code tells scripts the rest."""
        if self.as_json:
            self.event(error.as_event())
            return
        self.clear()
        label = click.style("Error:", fg="red") if self.colour else "Error:"
        click.echo(f"{label} {clean(error.message, limit=2000)}", err=True)
        if error.hint:
            click.echo(f"  {clean(error.hint, limit=2000)}", err=True)

    def table(self, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> None:
        """Columns are (title, "<" or ">"); cells are cleaned and the last column is not padded."""
        body = [[clean(cell, limit=200) for cell in row] for row in rows]
        widths = [max([len(title), *(len(row[i]) for row in body)]) for i, (title, _) in enumerate(columns)]
        lines = [[title for title, _ in columns], *body]
        for number, line in enumerate(lines):
            cells = [f"{cell:{columns[i][1]}{widths[i]}}" for i, cell in enumerate(line)]
            self.say("  ".join(cells).rstrip(), bold=number == 0)


class Progress:
    """A bar for bytes, with rate and time left, drawn only when the work takes longer than a second."""

    def __init__(self, output: Output, label: str, clock: Any = time.monotonic) -> None:
        self._output = output
        self._label = label
        self._clock = clock
        self._begun = clock()
        self._drawn = 0.0
        self._first: tuple[float, int] | None = None
        self._said = ""

    def update(self, done: int, total: int, *, rate: float | None = None, sources: int | None = None) -> None:
        now = self._clock()
        if self._first is None:
            self._first = (now, done)
        if now - self._begun < PATIENCE or now - self._drawn < REFRESH:
            return
        self._drawn = now
        began, at = self._first
        speed = rate if rate is not None else (done - at) / max(now - began, 0.001)
        parts = [f"{self._label:<9}", bar(done, total), f"{size(done)}/{size(total)}", f"{speed_text(speed)}"]
        if speed > 0 and total > done:
            parts.append(f"ETA {duration((total - done) / speed)}")
        if sources is not None:
            parts.append(f"{sources} source{'' if sources == 1 else 's'}")
        self._output.status_line("  ".join(parts))

    def reason(self, text: str) -> None:
        """Why nothing moves; once each, on a terminal in place."""
        text = clean(text, limit=200)
        if not text or text == self._said:
            return
        self._said = text
        if self._output.terminal:
            self._output.status_line(text)
        else:
            self._output.note(text)


def _printable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def bar(done: int, total: int) -> str:
    share = 1.0 if total <= 0 else min(1.0, done / total)
    halves = int(share * BAR_WIDTH * 2)
    full, half = divmod(halves, 2)
    drawn = "━" * full + ("╸" if half else "")
    return f"{drawn:<{BAR_WIDTH}} {int(share * 100):3d} %"


def size(count: float | None) -> str:
    """Bytes in binary units, as file managers show them: 1.2 GiB."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def speed_text(rate: float) -> str:
    """Bytes a second in decimal units, as networks are sold: 412 MB/s."""
    value = float(rate)
    for unit in ("B/s", "kB/s", "MB/s", "GB/s"):
        if value < 1000 or unit == "GB/s":
            return f"{value:.1f} {unit}" if value < 10 and unit != "B/s" else f"{value:.0f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    whole = int(max(0.0, seconds) + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"


def short_id(peer_id: str) -> str:
    return peer_id if len(peer_id) <= 14 else f"{peer_id[:8]}…{peer_id[-4:]}"
