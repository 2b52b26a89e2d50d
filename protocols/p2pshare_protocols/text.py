"""Making a stranger's text harmless: for a terminal, a log, or as a name on this machine's disk."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from typing import Final

MAX_FILENAME: Final = 255  # bytes: NAME_MAX of ext4, xfs, btrfs, APFS (UTF-8) and the order of NTFS
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
# Marks that reorder text and could make "exe.txt" of "txt.exe", invisible fillers, and line separators.
_DIRECTION: Final = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_INVISIBLE: Final = "\u00ad\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\ufff9\ufffa\ufffb\u115f\u1160\u3164\uffa0"
_DROPPED: Final = frozenset(_DIRECTION + _INVISIBLE)
_SPACES: Final = frozenset("\t\n\r\v\f\x85\u2028\u2029")
_RESERVED: Final = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"]
    + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"]
)


def clean(text: str | bytes, limit: int = 200) -> str:
    """One line that is safe to print: at most `limit` characters, the last of them "…" where it was cut.

    Line breaks and tabs become spaces; other control characters, lone surrogates and unassigned or private code
    points become U+FFFD; marks that reorder text or are invisible are dropped.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit + 4].decode("utf-8", "replace")
    cut = len(text) > limit
    text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(_clean_character(character) for character in text)
    return text[: limit - 1] + "…" if cut else text


def safe_filename(name: bytes | str) -> str:
    """A stranger's name as one path component of this machine. Always the same for the same name.

    Never empty, "." or ".."; no "/", "\\", NUL, control, direction mark or invalid UTF-8; at most 255 bytes of UTF-8
    (longer names end in a piece of their SHA-256, the extension kept); never a device name of Windows. An ordinary
    name comes back as it is.
    """
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    text = raw.decode("utf-8", "replace")
    if text.isascii() and text.isprintable() and "/" not in text and "\\" not in text:
        safe = text
    else:
        safe = "".join("_" if c in "/\\" or c in _SPACES else _clean_character(c) for c in text)
        safe = safe.replace(REPLACEMENT, "_")
    if not safe.strip(" "):
        safe = "_" * max(1, len(safe))
    if safe in {".", ".."}:
        safe = "_" * len(safe)
    if safe.split(".", 1)[0].rstrip(" ").upper() in _RESERVED:
        safe = "_" + safe
    if len(safe.encode()) > MAX_FILENAME:
        safe = _shorten(safe, "~" + hashlib.sha256(raw).hexdigest()[:12])
    return safe


def unique_names(names: Iterable[bytes | str], *, fold: bool = False) -> list[str]:
    """Distinct safe file names for a directory's entries, in their order.

    Two names that become the same file name are told apart by " (2)", " (3)" before the extension. With `fold`, for a
    file system that does not tell case or Unicode composition apart, so are names that differ only in these.
    """
    taken: set[str] = set()
    counts: dict[str, int] = {}
    out: list[str] = []
    for name in names:
        first = candidate = safe_filename(name)
        key = _folded(first) if fold else first
        number = counts.get(key, 1)
        while (_folded(candidate) if fold else candidate) in taken:
            number += 1
            candidate = _shorten(first, f" ({number})")
        counts[key] = number
        taken.add(_folded(candidate) if fold else candidate)
        out.append(candidate)
    return out


def _clean_character(character: str) -> str:
    if character in _DROPPED or "\U000e0000" <= character <= "\U000e0fff":
        return ""
    if character in _SPACES:
        return " "
    # Controls, surrogates, unassigned, private use. Other format characters (the joiners of emoji and of Indic and
    # Arabic scripts) stay: they belong to words.
    return REPLACEMENT if unicodedata.category(character) in {"Cc", "Cs", "Cn", "Co"} else character


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shorten(name: str, suffix: str) -> str:
    """`suffix` before the extension, the stem cut at a character so that the whole is at most 255 bytes."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 16:
        stem, dot, extension = name, "", ""
    room = MAX_FILENAME - len((suffix + dot + extension).encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + suffix + dot + extension
