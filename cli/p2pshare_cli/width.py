"""How many columns of a terminal a text takes: two for East Asian wide characters, none for combining ones."""

from __future__ import annotations

import unicodedata


def width(text: str) -> int:
    """Columns, by Unicode Standard Annex 11 (wide and fullwidth are two) and combining classes (none)."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, columns: int) -> str:
    """`text` in at most so many columns (at least one), with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    kept, used = [], 1
    for character in text:
        used += _columns(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept) + "…"


def pad(text: str, columns: int, side: str = "<") -> str:
    """`text` filled with spaces to so many columns; `side` is "<" (text first) or ">"."""
    space = " " * max(0, columns - width(text))
    return space + text if side == ">" else text + space
