"""The log: a private file of bounded size, and the terminal in the foreground. One event is one clean line."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler

from p2pshare.errors import from_os_error

MAX_FILE = 8 << 20  # bytes of the log, before it is moved to daemon.log.1
KEPT = 2  # moved logs
MAX_LINE = 4000  # characters; a stranger's words are in some of them
TAIL = 1 << 20  # bytes that `tail` reads at most


class _CleanFormatter(logging.Formatter):
    """RFC 3339 UTC, level, part, message; control characters and line ends of whoever wrote them made visible."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return clean_line(super().format(record))


def clean_line(text: str) -> str:
    """One line that a terminal can show: an exception's lines are joined by " | ", anything unprintable is escaped."""
    text = _middle_out(text, 4 * MAX_LINE)
    joined = " | ".join(line.rstrip() for line in text.splitlines() if line.strip())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in joined)
    return _middle_out(shown, MAX_LINE)


def _middle_out(text: str, limit: int) -> str:
    """The begin, which says what happened, and the end, where a traceback has the cause."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 4]} … {text[-(limit - limit // 4) :]}"


class _PrivateFile(RotatingFileHandler):
    """0600 from its first moment, also after it was moved."""

    def _open(self) -> io.TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8", errors="backslashreplace")


class Log:
    def __init__(self, path: str, file: RotatingFileHandler) -> None:
        self.path = path
        self._file = file

    def reopen(self) -> None:
        """After logrotate moved the file (SIGHUP)."""
        self._file.acquire()
        try:
            if self._file.stream is not None:
                self._file.stream.close()
            self._file.stream = self._file._open()
        finally:
            self._file.release()

    def tail(self, lines: int) -> list[str]:
        """The last lines, oldest first; at most what is in the last mebibyte."""
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL))
                data = file.read(TAIL)
        except OSError:
            return []
        return data.decode("utf-8", "replace").splitlines()[-lines:]


@contextmanager
def open_log(path: str, level: str, *, terminal: bool) -> Iterator[Log]:
    """Send p2pshare's log to `path`, and to standard error when `terminal`. Others' loggers speak from WARNING up."""
    try:
        file = _PrivateFile(path, maxBytes=MAX_FILE, backupCount=KEPT, encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, f"open the log {path}") from error
    handlers: list[logging.Handler] = [file]
    if terminal:
        handlers.append(logging.StreamHandler(sys.stderr))
    root, ours = logging.getLogger(), logging.getLogger("p2pshare")
    for handler in handlers:
        handler.setFormatter(_CleanFormatter())
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    ours.setLevel(level.upper())
    raising, logging.raiseExceptions = logging.raiseExceptions, False  # a full disk must not write to a closed stderr
    try:
        yield Log(path, file)
    finally:
        logging.raiseExceptions = raising
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
