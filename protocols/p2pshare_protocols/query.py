"""The query language: text in, `Query` out. docs/search.md is its guide; the CLI's flags are sugar for its filters.

    raft consensus            both words, in name, directories, tags, title or type
    "state machine"           side by side
    raft OR paxos             either; OR binds closer than the space
    -draft  -"old notes"      left out
    type:video,audio  ext:pdf  tag:x  publisher:12D3…  size:>1G  size:1M..20M  newer:7d  older:2026-01-31

A word that is cut in several terms (raft-thesis, 한국어) is a phrase. Unknown `key:` is text like any other.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from . import terms
from .errors import LocalProtocolError
from .query_model import MAX_CLAUSES, MAX_SIZE, TYPES, Query, QueryError, Record, shown, unique

__all__ = ["MAX_QUERY", "TYPES", "Query", "QueryError", "Record", "parse", "parse_age", "parse_size"]

MAX_QUERY = 1024  # bytes of UTF-8
_QUOTES = '"“”„«»'
_KEYS = ("type", "ext", "tag", "publisher", "size", "newer", "older")
_TOKEN = re.compile(rf"(-?)([{_QUOTES}])([^{_QUOTES}]*)([{_QUOTES}])|(\S+?(?=[{_QUOTES}])|\S+)")
_FILTER = re.compile(r"(-?)([A-Za-z]+):(.*)", re.DOTALL)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgtp]?)(i?b?)", re.IGNORECASE | re.ASCII)
_AGE = re.compile(r"(\d{1,6})(s|min|h|d|w|mo|y)", re.IGNORECASE | re.ASCII)
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800, "mo": 2592000, "y": 31536000}


@dataclass(slots=True)
class _Found:
    """What has been read so far. `groups`: alternatives joined by OR, each a clause; one clause is no group."""

    groups: list[list[str]] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    type: list[str] = field(default_factory=list)
    ext: list[str] = field(default_factory=list)
    publisher: list[str] = field(default_factory=list)
    tag: list[str] = field(default_factory=list)
    min_size: int | None = None
    max_size: int | None = None
    newer: float | None = None
    older: float | None = None


def parse(
    text: str,
    *,
    now: float | None = None,
    type: str | Iterable[str] | None = None,
    ext: str | Iterable[str] | None = None,
    min_size: int | str | None = None,
    max_size: int | str | None = None,
    newer: str | None = None,
    older: str | None = None,
    publisher: str | Iterable[str] | None = None,
    tag: str | Iterable[str] | None = None,
) -> Query:
    """Read a query; the keywords are the CLI's flags and mean the same as filters in the text.

    `now` (unix seconds) is needed where an age such as 7d may stand. Raises QueryError with one sentence.
    """
    _check_text(text)
    found = _Found()
    _read(text, found, now)
    for key, value in (("type", type), ("ext", ext), ("publisher", publisher), ("tag", tag)):
        for one in [value] if isinstance(value, str) else value or ():
            _check_text(one)
            _filter(found, key, one, now)
    for key, age in (("newer", newer), ("older", older)):
        if age is not None:
            _filter(found, key, age, now)
    _narrow(found, _size(min_size), _size(max_size))
    return _finish(found, text)


def _check_text(text: str) -> None:
    if len(text) > MAX_QUERY or len(text.encode(errors="replace")) > MAX_QUERY:
        raise QueryError(f"The query is too long: at most {MAX_QUERY} bytes.")
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r" for char in text):
        raise QueryError("The query has a control character or is not UTF-8 text.")


def _read(text: str, found: _Found, now: float | None) -> None:
    joining: bool | None = None  # True: the last token was OR; None: nothing before it that OR could join
    last_key = ""
    for minus, quoted, plain in _tokens(text):
        if plain == "OR":
            if joining is not False:
                raise QueryError("OR needs a word on both sides.")
            joining = True
            continue
        key, value = ("", plain) if quoted is not None else _split_filter(plain)
        if key:
            if joining is True and key != last_key:
                raise QueryError(f"OR cannot join {key}: with something else; it joins words, or the same filter.")
            _filter(found, key, value, now)
            joining, last_key = (False if key in ("type", "ext", "publisher") else None), key
            continue
        excluded = bool(minus) if quoted is not None else plain.startswith("-")
        if joining is True and (excluded or last_key):
            raise QueryError("OR joins words; it cannot join an exclusion or a filter with a word.")
        clause = " ".join(terms.phrase(quoted if quoted is not None else plain))
        if excluded:
            found.excluded += [clause] if clause else []
        elif joining is True:
            found.groups[-1] += [clause] if clause else []
        else:
            found.groups += [[one] for one in _loosened(clause)] if quoted is None else [[clause]]
        joining, last_key = (None if excluded else False), ""
    if joining is True:
        raise QueryError("OR needs a word on both sides.")


def _loosened(clause: str) -> list[str]:
    """A lone Hangul, Han or Kana character in an unquoted word ("2026年") is a word of its own: in the name
    "2026年報告" it stands inside a pair, and has no neighbour. Everything before and after it stays a phrase."""
    if " " not in clause:
        return [clause]
    runs = groupby(clause.split(" "), key=lambda term: len(term) == 1)
    return [one for single, run in runs for one in (list(run) if single else [" ".join(run)])]


def _tokens(text: str) -> Iterator[tuple[str, str | None, str]]:
    """(minus, quoted text or None, plain text)."""
    position = 0
    count = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TOKEN.match(text, position)
        if match is None or (match[5] is not None and match[5].lstrip("-")[:1] in tuple(_QUOTES)):
            raise QueryError('A quotation mark is not closed: write "like this".')
        position = match.end()
        count += 1
        if count > 4 * MAX_CLAUSES:
            raise QueryError(f"A query may have at most {MAX_CLAUSES} words.")
        if match[5] is None:
            yield match[1], match[3], ""
        elif match[5].strip("-"):
            minus = match[5].startswith("-")
            yield ("-" if minus else ""), None, match[5]


def _split_filter(plain: str) -> tuple[str, str]:
    match = _FILTER.fullmatch(plain)
    if match is None or match[2].lower() not in _KEYS:
        return "", plain
    key = match[2].lower()
    if match[1]:
        raise QueryError(f"A filter cannot be excluded: -{key}: is not understood.")
    return key, match[3]


def _filter(found: _Found, key: str, value: str, now: float | None) -> None:
    if not value.strip():
        raise QueryError(f"{key}: needs a value, such as {_example(key)}.")
    if key == "size":
        _narrow(found, *_size_range(value))
    elif key == "newer":
        found.newer = max(found.newer or 0.0, parse_age(value, now))
    elif key == "older":
        age = parse_age(value, now)
        found.older = age if found.older is None else min(found.older, age)
    else:
        getattr(found, key).extend(_value(key, one) for one in value.split(",") if one.strip())


def _value(key: str, value: str) -> str:
    value = value.strip()
    if key == "publisher":
        if len(value) > 128 or not value.isprintable():
            raise QueryError("publisher: needs a name or a peer ID.")
        return value
    value = terms.normalise(value)
    if key == "type":
        value = value if value in TYPES else value.removesuffix("s")
        if value not in TYPES:
            raise QueryError(f'There is no type "{shown(value)}"; the types are {", ".join(TYPES)}.')
    if key == "ext":
        value = value.lstrip(".")
        if not re.fullmatch(r"[^\W_](?:[\w.+~-]{0,15})", value):
            raise QueryError("ext: needs a file name's ending, such as ext:pdf or ext:tar.gz.")
    if not 1 <= len(value) <= 128 or not value.isprintable():
        raise QueryError(f"{key}: needs a short text, such as {_example(key)}.")
    return value


def _example(key: str) -> str:
    return {
        "type": "type:video",
        "ext": "ext:pdf",
        "tag": "tag:lecture",
        "publisher": "publisher:12D3KooW…",
        "size": "size:>1G",
        "newer": "newer:7d",
        "older": "older:2026-01-31",
    }[key]


def _size_range(value: str) -> tuple[int | None, int | None]:
    low, dots, high = value.partition("..")
    if dots:
        if not (low or high):
            raise QueryError("size: needs a number, such as size:1M..20M.")
        return (_size(low) if low else None), (_size(high) if high else None)
    for sign, least, most in ((">=", 0, None), ("<=", None, 0), (">", 1, None), ("<", None, -1)):
        if value.startswith(sign):
            size = _size(value[len(sign) :]) or 0
            if least is not None:
                return size + least, None
            return None, max(0, size + (most or 0))
    raise QueryError("size: needs a comparison, such as size:>1G, size:<=20M or size:1M..20M.")


def _size(value: int | str | None) -> int | None:
    return parse_size(value) if isinstance(value, str) else _checked_size(value)


def parse_size(text: str) -> int:
    """Bytes of "700", "1.5G", "20MB": K, M, G, T, P alone or with iB are powers of 1024; with B powers of 1000."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise QueryError(f'"{shown(text)}" is not a size; write one like 700K, 20M or 1.5G.')
    base = 1000 if match[2] and match[3].lower() == "b" else 1024
    exact = float(match[1]) * base ** (" kmgtp".index(match[2].lower() or " "))
    return min(int(exact), MAX_SIZE - 1)


def _checked_size(value: int | None) -> int | None:
    if value is not None and not 0 <= value < MAX_SIZE:
        raise QueryError("A size must be a whole number of bytes, not negative.")
    return value


def parse_age(text: str, now: float | None) -> float:
    """Unix seconds of "7d" ago (s, min, h, d, w, mo of 30 days, y of 365) or of a date "2026-01-31" (UTC)."""
    match = _AGE.fullmatch(text.strip())
    if match is not None:
        if now is None:
            raise LocalProtocolError("parse() needs now= to understand an age")
        return max(0.0, now - int(match[1]) * _SECONDS[match[2].lower()])
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip(), re.ASCII):
            raise ValueError
        return max(0.0, datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise QueryError(
            f'"{shown(text)}" is not an age or a date; write 30min, 12h, 7d, 2w, 6mo, 1y or 2026-01-31.'
        ) from None


def _narrow(found: _Found, least: int | None, most: int | None) -> None:
    if least is not None:
        found.min_size = least if found.min_size is None else max(found.min_size, least)
    if most is not None:
        found.max_size = most if found.max_size is None else min(found.max_size, most)


def _finish(found: _Found, text: str) -> Query:
    groups = [unique(one for one in group if one) for group in found.groups if any(group)]
    single = unique(group[0] for group in groups if len(group) == 1)
    query = Query(
        words=tuple(clause for clause in single if " " not in clause),
        phrases=tuple(tuple(clause.split(" ")) for clause in single if " " in clause),
        any_of=tuple(group for group in groups if len(group) > 1),
        excluded=unique(found.excluded),
        type=unique(found.type),
        ext=unique(found.ext),
        min_size=found.min_size,
        max_size=found.max_size,
        newer=found.newer,
        older=found.older,
        publisher=unique(found.publisher),
        tag=unique(found.tag),
    )
    if query == Query():
        if text.strip():
            raise QueryError("Nothing in the query can be looked for: a word needs two letters or digits.")
        raise QueryError("The query is empty; say what to look for.")
    query.check()
    return query
