"""How results, waits and errors look: for a person on a terminal, for a pipe, and for a script (`--json`).

Results go to standard output; progress, waits and errors of the human form go to standard error, so that
`p2pshare shares | grep` and `fetch -o -` carry nothing else. With `--json` everything is one object a line on
standard output.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from p2pshare_cli.errors import CommandError
from p2pshare_cli.width import cut, pad, width
from p2pshare_protocols.text import clean

BAR_WIDTH = 20
MAX_LINE = 16384  # characters of one printed line
LABEL_WIDTH = 28  # columns that a name takes at most before its bar
MIN_COLUMN = 8  # columns that a table's column keeps, however narrow the terminal
NUMBER = re.compile(r"[0-9]+")
ERASE_REST = "\x1b[K"  # ECMA-48 EL: from the cursor to the end of the line
REFRESH = 0.1  # seconds between two pictures of a progress line
PATIENCE = 1.0  # seconds: what takes longer shows progress


class Output:
    """The one place that prints."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() and not as_json and os.environ.get("TERM") != "dumb"
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and not as_json
        self.colour = sys.stdout.isatty() and wanted
        self._error_colour = sys.stderr.isatty() and wanted
        self._line_shown = False

    @property
    def columns(self) -> int | None:
        """How wide results may be; None when standard output is no terminal: nothing is cut there."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def event(self, body: Mapping[str, Any]) -> None:
        """One JSON line; nothing unless `--json`."""
        if self.as_json:
            line = json.dumps(body, ensure_ascii=False, default=str)
            if not _is_text(line):  # a path that is not UTF-8 keeps its bytes, as escapes that json.loads gives back
                line = json.dumps(body, default=str)
            click.echo(line)

    def say(self, text: str = "", *, bold: bool = False, colour: str | None = None) -> None:
        """A line of a result; nothing with `--json`."""
        if self.as_json:
            return
        self.clear()
        shown = _printable(clean(text, limit=MAX_LINE))  # names in it were chosen by others
        click.echo(click.style(shown, bold=bold or None, fg=colour) if self.colour and (bold or colour) else shown)

    def note(self, text: str) -> None:
        """A line about what is going on, for a person; nothing with `--json` or `--quiet`."""
        if self.as_json or self.quiet:
            return
        self.clear()
        click.echo(_printable(clean(text, limit=MAX_LINE)), err=True)

    def status_line(self, text: str) -> None:
        """A line that the next one overwrites; on a terminal only."""
        if not self.terminal or self.quiet:
            return
        sys.stderr.write("\r" + cut(_printable(clean(text, limit=MAX_LINE)), max(10, error_columns() - 1)) + ERASE_REST)
        sys.stderr.flush()
        self._line_shown = True

    def clear(self) -> None:
        if self._line_shown:
            sys.stderr.write("\r" + ERASE_REST)
            sys.stderr.flush()
            self._line_shown = False

    def error(self, error: CommandError) -> None:
        """What happened and what to do; the exit code tells scripts the rest."""
        if self.as_json:
            self.event(error.as_event())
            return
        self.clear()
        label = click.style("Error:", fg="red") if self._error_colour else "Error:"
        click.echo(f"{label} {_printable(clean(error.message, limit=2000))}", err=True)
        if error.hint:
            click.echo(f"  {_printable(clean(error.hint, limit=2000))}", err=True)

    def table(self, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> None:
        """Columns are (title, "<" or ">"); cells are cleaned, and cut to what a terminal has room for."""
        lines = [[title for title, _ in columns], *([clean(cell, limit=4096) for cell in row] for row in rows)]
        wanted = [max(width(line[i]) for line in lines) for i in range(len(columns))]
        widths = _fitting(wanted, [side == "<" for _, side in columns], self.columns)
        for number, line in enumerate(lines):
            cells = [pad(cut(cell, widths[i]), widths[i], columns[i][1]) for i, cell in enumerate(line)]
            self.say("  ".join(cells).rstrip(), bold=number == 0)


class Progress:
    """A bar for bytes, with rate and time left, drawn only when the work takes longer than a second."""

    def __init__(self, output: Output, label: str, clock: Any = time.monotonic) -> None:
        self._output = output
        self._label = cut(clean(label, limit=200), LABEL_WIDTH)
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
        percent = f"{int(100 * _share(done, total)):3d} %"
        left = [f"ETA {duration((total - done) / speed)}"] if speed > 0 and total > done else []
        known = [] if sources is None else [f"{sources} source{'' if sources == 1 else 's'}"]
        self._output.status_line(
            _first_fitting(
                [self._label, f"{bar(done, total)} {percent}", size_of(done, total), speed_text(speed), *left, *known],
                [self._label, f"{bar(done, total)} {percent}", speed_text(speed), *left],
                [self._label, percent, speed_text(speed), *left],
                [percent, speed_text(speed), *left],
            )
        )

    def reason(self, text: str) -> None:
        """Why nothing moves: on a terminal in place, elsewhere a line a change; not for what is over in a second."""
        text = clean(text, limit=200)
        if not text or self._clock() - self._begun < PATIENCE:
            return
        if self._output.terminal:
            self._output.status_line(text)
        elif (what := NUMBER.sub("", text)) != self._said:  # "retry in 29 s" and "in 28 s" are one state
            self._said = what
            self._output.note(text)


def _is_text(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def error_columns() -> int:
    """Columns of the terminal that progress is shown on."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _fitting(widths: list[int], elastic: Sequence[bool], columns: int | None) -> list[int]:
    """Column widths that fit: of those that hold text, the widest gives way first, down to MIN_COLUMN."""
    widths = list(widths)
    while columns is not None and sum(widths) + 2 * (len(widths) - 1) > columns:
        at = max((i for i, gives in enumerate(elastic) if gives), key=widths.__getitem__, default=None)
        if at is None or widths[at] <= MIN_COLUMN:
            break
        widths[at] -= 1
    return widths


def _first_fitting(*choices: list[str]) -> str:
    lines = ["  ".join(parts) for parts in choices]
    return next((line for line in lines if width(line) < error_columns()), lines[-1])


def _share(done: int, total: int) -> float:
    return 1.0 if total <= 0 else min(1.0, done / total)


def bar(done: int, total: int) -> str:
    """The drawn part of a progress line, BAR_WIDTH columns."""
    full, half = divmod(int(_share(done, total) * BAR_WIDTH * 2), 2)
    drawn = "━" * full + ("╸" if half else "")
    return f"{drawn:<{BAR_WIDTH}}"


def size_of(done: int, total: int) -> str:
    """How much of how much, the unit once when it is the same: 0.8/1.2 GiB."""
    first, second = size(done), size(total)
    number, _, unit = first.partition(" ")
    return f"{number}/{second}" if second.endswith(f" {unit}") else f"{first}/{second}"


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
