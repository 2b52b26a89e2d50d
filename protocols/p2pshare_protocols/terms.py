"""How a name, a tag or a query becomes terms. One rule for all of them, in the catalogue and in the network.

The rule (DESIGN, section 8), in order:

1. NFKC, so that macOS's decomposed names equal composed ones and full-width letters equal plain ones.
2. Words are runs of letters, digits and their marks (Unicode categories L, N, M); everything else separates them,
   so `.`, `_`, `-`, `+` and spaces do. Invisible characters (category Cf, variation selectors) are left out.
   An apostrophe between letters joins: "don't" is the word "dont", with the part "don" (and "l'été" has "été").
3. A word also yields its parts at camelCase and at borders of letters and digits: "JavaScript" is found by
   "javascript", "java" and "script"; "raft2026" by "raft2026", "raft" and "2026". The whole word stays, because
   people type it so. A part of letters cut off at a digit needs three letters ("mp4" does not yield "mp"); a word of
   more than 8 parts is an identifier or a hash, and stays whole.
4. Runs of Hangul, Han and Kana become overlapping pairs, so that a word inside a compound is found; a run of one
   character is itself a term.
5. Casefold, then NFKC again (Unicode's NFKC_Casefold).

A term has 2 to 64 characters; longer words are cut at 64, on both sides alike; shorter ones are dropped, except
the single Hangul, Han or Kana character. There are no stop words: in names of files every word may count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

MIN_TERM = 2
MAX_TERM = 64
MAX_PARTS = 8
MAX_TERMS_PER_ITEM = 32  # postings an item may have in the network (DESIGN, section 8)
MAX_TEXT = 4096  # characters looked at; a name has at most 255 bytes, a path 4096
GAP = "0"  # in `index_text`: stands between renderings; one ASCII character is never a term

_ASCII_RUN = re.compile(r"[0-9A-Za-z]+(?:(?<=[A-Za-z])'(?=[A-Za-z])[0-9A-Za-z]+)*")
_ASCII_WORD = re.compile(r"[0-9A-Za-z]{2,}")
# Where an ASCII word is cut once more, or joined: camelCase, letters against digits, an apostrophe between letters.
_ASCII_CUT = re.compile(r"[a-z][A-Z]|[A-Z][A-Z][a-z]|[A-Za-z][0-9]|[0-9][A-Za-z]|[A-Za-z]'[A-Za-z]")
_APOSTROPHES = frozenset("'’")
_PAIRED_RANGES = (
    (0x1100, 0x11FF),  # Hangul jamo
    (0x3005, 0x3007),  # Han iteration mark, closing mark, zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),  # Hangul jamo
    (0xAC00, 0xD7FF),  # Hangul syllables, jamo
    (0xF900, 0xFAFF),  # Han compatibility
    (0x1AFF0, 0x1B16F),  # Kana
    (0x20000, 0x3FFFF),  # Han
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text. `whole`: its terms as typed (one term, or the pairs of a run); `parts`: the finer cut.

    `singles`: the characters of a Hangul, Han or Kana run, for an index that wants to find one of them.
    """

    whole: tuple[str, ...]
    parts: tuple[str, ...] = ()
    singles: tuple[str, ...] = ()


def normalise(text: str) -> str:
    """NFKC_Casefold: two texts that read the same compare equal."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def cut(text: str, limit: int | None = None) -> list[str]:
    """The terms of `text` in their order, each once, at most `limit` of them. Never raises."""
    found: dict[str, None] = {}
    for word in words(text):
        for term in (*word.whole, *word.parts):
            if limit is not None and len(found) >= limit:
                return list(found)
            found[term] = None
    return list(found)


def phrase(text: str) -> list[str]:
    """The terms of what a person typed, whole words only, duplicates kept: neighbours here are neighbours in
    `sequence` of a name that holds the phrase. The case of a query never matters, so camelCase is not looked at."""
    return [term for word in words(normalise(text[:MAX_TEXT])) for term in word.whole]


def sequence(text: str) -> list[str]:
    """The terms of a name for a phrase-aware index: whole words, then (after GAP) the finer cut, then single
    Hangul, Han or Kana characters. Neighbours stay neighbours within each rendering; duplicates are kept."""
    if text.isascii() and len(text) <= MAX_TERM and _ASCII_CUT.search(text) is None:
        return _ASCII_WORD.findall(text.lower())  # most names of files, and a directory may hold 100,000
    found = list(words(text))
    out = [term for word in found for term in word.whole]
    if any(word.parts for word in found):
        out.append(GAP)
        out += [term for word in found for term in (word.parts or word.whole)]
    singles = [term for word in found for term in word.singles]
    if singles:
        out.append(GAP)
        out += dict.fromkeys(singles)
    return out


def index_text(text: str) -> str:
    """`sequence` joined by spaces: what an FTS column holds (tokenizer "ascii": terms are already cut)."""
    return " ".join(sequence(text))


def is_term(text: str) -> bool:
    """Whether a stranger's `text` may stand for a term: short, with no separator, control or invisible character.

    Not more: a peer with a newer Unicode knows letters that we do not; such a term finds nothing here.
    """
    return 1 <= len(text) <= MAX_TERM and not any(
        unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cc", "Cf", "Cs") for char in text
    )


def words(text: str) -> Iterator[Word]:
    """The words of `text` in their order; only those that yield a term."""
    text = unicodedata.normalize("NFKC", text[:MAX_TEXT])
    for run, paired in _ascii_runs(text) if text.isascii() else _runs(text):
        word = _paired_word(run) if paired else _plain_word(run)
        if word.whole or word.parts:
            yield word


def _ascii_runs(text: str) -> Iterator[tuple[str, bool]]:
    """The same as `_runs` for ASCII, eight times as fast: most names are, and a directory may hold 100,000."""
    return ((match[0], False) for match in _ASCII_RUN.finditer(text))


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """Runs of word characters: (run, is it Hangul, Han or Kana). Apostrophes inside a plain run are kept in it."""
    run: list[str] = []
    paired = False
    for index, char in enumerate(text):
        kind = _kind(char, run, text[index + 1 : index + 2])
        if kind == "skip" or (kind == "mark" and (paired or not run)):
            continue
        if kind == "break" or (run and kind in ("plain", "paired") and (kind == "paired") != paired):
            if run:
                yield "".join(run), paired
            run = []
        if kind != "break":
            paired = kind == "paired"
            run.append(char)
    if run:
        yield "".join(run), paired


def _kind(char: str, run: list[str], following: str) -> str:
    if char in _APOSTROPHES:
        return "plain" if run and run[-1].isalpha() and following.isalpha() else "break"
    category = unicodedata.category(char)
    if category == "Cf" or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef":
        return "skip"
    if category[0] == "M":
        return "mark"
    if category[0] not in "LN":
        return "break"
    return "paired" if _paired(char) else "plain"


def _paired(char: str) -> bool:
    code = ord(char)
    return code >= 0x1100 and any(low <= code <= high for low, high in _PAIRED_RANGES)


def _paired_word(run: str) -> Word:
    run = normalise(run)
    if len(run) == 1:
        return Word((run,))
    return Word(tuple(run[i : i + 2] for i in range(len(run) - 1)), singles=tuple(run))


def _plain_word(run: str) -> Word:
    if run.isascii() and (run.isdigit() or (run.isalpha() and (run[1:].islower() or run.isupper()))):
        return Word(_term(run))  # nothing to split, which is the common case
    whole = _term("".join(char for char in run if char not in _APOSTROPHES))
    pieces = list(_pieces(run))
    parts: tuple[str, ...] = ()
    if 1 < len(pieces) <= MAX_PARTS:
        parts = tuple(term for piece, least in pieces for term in _term(piece, least) if (term,) != whole)
    return Word(whole, parts)


def _term(text: str, least: int = MIN_TERM) -> tuple[str, ...]:
    term = normalise(text)[:MAX_TERM]
    return (term,) if len(term) >= least else ()


def _pieces(run: str) -> Iterator[tuple[str, int]]:
    """(piece, characters it needs to become a term): split at apostrophes, camelCase, letters against digits."""
    for joined in run.replace("’", "'").split("'"):
        for hump in _humps(joined):
            groups = ["".join(group) for _, group in groupby(hump, key=lambda c: unicodedata.category(c)[0] == "N")]
            for piece in groups:
                letters = not unicodedata.category(piece[0]).startswith("N")
                yield piece, 3 if letters and len(groups) > 1 else MIN_TERM


def _humps(word: str) -> Iterator[str]:
    """camelCase: "raftConsensus" is raft, Consensus; "HTTPServer" is HTTP, Server."""
    start = 0
    for i in range(1, len(word)):
        here, before = word[i], word[i - 1]
        after = word[i + 1 : i + 2]
        if here.isupper() and (before.islower() or (before.isupper() and after.islower())):
            yield word[start:i]
            start = i
    yield word[start:]
