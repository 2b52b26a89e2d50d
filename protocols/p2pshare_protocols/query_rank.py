"""How well a record answers a query, as a number and as a sentence for `--explain`."""

from __future__ import annotations

from typing import Final, NamedTuple

from . import terms
from .query_model import Query, Record, field_holds

# A word in the name says more than one in a tag, and that more than one in a title or a directory's name.
WEIGHTS: Final = {"name": 1.0, "tags": 0.7, "title": 0.6, "path": 0.5, "type": 0.3}
_LABELS: Final = {"name": "name", "tags": "tags", "title": "title", "path": "directory", "type": "type"}
_WORDS, _COVERAGE, _EXACT = 0.7, 0.2, 0.1  # shares of the score; they add up to 1


class Rank(NamedTuple):
    """`score` from 0 to 1; `why` such as "all words in name" or "2 words in name, 1 in tags"."""

    score: float
    why: str


def rank(query: Query, record: Record) -> Rank:
    """Where the words stand (the best field of each), how much of the name they are, and whether they are all of it.

    A record that only filters let through has score 0 and the filters for its why.
    """
    clauses = [_best(record, group) for group in query.required()]
    if not clauses:
        return Rank(0.0, "fits the filters" if query.filtered else "")
    fields: dict[str, int] = {}
    for field, _ in clauses:
        fields[field] = fields.get(field, 0) + 1
    weight = sum(WEIGHTS.get(field, 0.0) for field, _ in clauses) / len(clauses)
    asked = [term for field, clause in clauses if field == "name" for term in clause.split(" ")]
    coverage = _coverage(record.name, asked)
    exact = coverage == 1.0 and fields.get("name") == len(clauses)
    return Rank(round(_WORDS * weight + _COVERAGE * coverage + _EXACT * exact, 4), _why(fields, len(clauses), exact))


def _best(record: Record, group: tuple[str, ...]) -> tuple[str, str]:
    """(the weightiest field in which one of the clauses holds, that clause); ("", "") when none does."""
    for field in WEIGHTS:
        for clause in group:
            if field_holds(record.terms[field], clause):
                return field, clause
    return "", ""


def _coverage(name: str, asked: list[str]) -> float:
    """The share of the name's words (its ending aside) that were asked for."""
    stem, dot, ending = name.rpartition(".")
    of_name = set(terms.phrase(stem if dot and stem and len(ending) <= 5 else name))
    return len(of_name.intersection(asked)) / len(of_name) if of_name else 0.0


def _why(fields: dict[str, int], asked: int, exact: bool) -> str:
    if exact:
        return "exact name"
    found = [(_LABELS[field], fields[field]) for field in WEIGHTS if field in fields]
    if len(found) == 1 and found[0][1] == asked:
        label = found[0][0]
        return f"all words in {label}" if asked > 1 else f"word in {label}"
    parts = [f"{count} {'word' if count == 1 else 'words'} in {label}" for label, count in found]
    return ", ".join(parts)
