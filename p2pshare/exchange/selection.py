"""Which part of a DAG's plan a fetch wants: entries by a glob, or a range of one file's bytes. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from p2pshare.errors import NotFound, UsageError
from p2pshare_protocols.dagplan import Entry, Inline, Leaf

_MOST: Final = (1 << 63) - 1

Span = tuple[int, int | None]  # first and last byte, both included; None: to the end


def parse_span(text: str) -> Span:
    """ "A-B" or "A-". Raises UsageError."""
    first, dash, last = text.partition("-")
    numbers = (first, last) if last else (first,)
    if not dash or not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise UsageError(f"{text!r} is not a range of bytes: A-B, or A- for all from A on")
    if last and int(last) < int(first):
        raise UsageError(f"the range {text} ends before it begins")
    return int(first), int(last) if last else None


def choose(entries: Sequence[Entry], only: str | None) -> list[Entry]:
    """The entries that a glob lets through: by the whole path inside the item, or by the last name."""
    if only is None:
        return list(entries)
    chosen = []
    for entry in entries:
        path = b"/".join(entry.path).decode("utf-8", "surrogateescape")
        name = path.rpartition("/")[2]
        if entry.kind != "directory" and (fnmatch.fnmatchcase(path, only) or fnmatch.fnmatchcase(name, only)):
            chosen.append(entry)
    if not chosen:
        raise NotFound(f"nothing in it matches {only}")
    return chosen


def cut(entries: Sequence[Entry], span: Span) -> list[Entry]:
    """The one file there is, as a file of the span's bytes only.

    The first leaf may begin before the file (at a negative offset), the last may end behind it: a block can be verified
    as a whole only. Raises UsageError when it is no file, or has no such bytes.
    """
    if len(entries) != 1 or entries[0].kind != "file":
        raise UsageError("a range can be fetched of one file only", hint="name the file: LINK/PATH")
    [entry] = entries
    size = entry.size or 0
    first, last = span
    end = min(size, (_MOST if last is None else last) + 1)
    if first >= end:
        raise UsageError(f"the file has {size} bytes: there is nothing from byte {first} on")
    segments: list[Leaf | Inline] = []
    for segment in entry.segments:
        length = len(segment.data) if isinstance(segment, Inline) else segment.size or 0
        if segment.offset + length <= first or segment.offset >= end:
            continue
        if isinstance(segment, Leaf):
            segments.append(segment._replace(offset=segment.offset - first))
        else:
            data = segment.data[max(0, first - segment.offset) : end - segment.offset]
            segments.append(Inline(max(0, segment.offset - first), data))
    return [replace(entry, size=end - first, segments=segments, mode=None, mtime=None)]
