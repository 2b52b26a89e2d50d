"""A query as data: what every tier (catalogue, connected peers, DHT) means by it, and its bounded wire form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property

from . import terms
from .errors import ProtocolError, RemoteProtocolError

MAX_CLAUSES = 32  # words, phrases, exclusions and alternatives together
MAX_QUERY_TERMS = 128  # after cutting: a word of Han characters is many pairs
MAX_FILTERS = 16  # of one sort
MAX_SIZE = 2**63 - 1
MAX_TIME = 2**53
TYPES = ("video", "audio", "image", "document", "archive", "software", "text", "other")


class QueryError(ProtocolError):
    """The query is not one we understand; the message is a sentence for the person who typed it."""


@dataclass(frozen=True)
class Record:
    """What a query is asked about: one item, or one file inside it. `size` in bytes, `created` in unix seconds."""

    name: str
    path: str = ""  # the directories above `name`, from the item's own name down
    tags: tuple[str, ...] = ()
    title: str = ""
    type: str = "other"
    size: int = 0
    created: float = 0.0
    publisher: str = ""  # peer ID
    publisher_name: str = ""

    @cached_property
    def terms(self) -> dict[str, list[str]]:
        """Field → its terms as `terms.sequence` gives them."""
        return {
            "name": terms.sequence(self.name),
            "tags": terms.sequence(" | ".join(self.tags)),
            "title": terms.sequence(self.title),
            "path": terms.sequence(self.path),
            "type": [] if self.type == "other" else [self.type],
        }


@dataclass(frozen=True, slots=True)
class Query:
    """What must hold, all of it. A clause is a term, or several terms joined by spaces: they stand side by side.

    `words`: single terms; `phrases`: runs of terms; `any_of`: groups of clauses of which one must hold;
    `excluded`: clauses none of which may hold. Of a filter's values one must hold, of `tag` every one.
    Sizes are inclusive bytes; `newer` and `older` are unix seconds: shared at or after, shared before.
    """

    words: tuple[str, ...] = ()
    phrases: tuple[tuple[str, ...], ...] = ()
    any_of: tuple[tuple[str, ...], ...] = ()
    excluded: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    ext: tuple[str, ...] = ()
    min_size: int | None = None
    max_size: int | None = None
    newer: float | None = None
    older: float | None = None
    publisher: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()

    def required(self) -> Iterator[tuple[str, ...]]:
        """Groups of clauses; of each group at least one must hold in a record that matches."""
        for word in self.words:
            yield (word,)
        for phrase in self.phrases:
            yield (" ".join(phrase),)
        yield from self.any_of

    def matches(self, record: Record) -> bool:
        return (
            all(any(holds(record, clause) for clause in group) for group in self.required())
            and not any(holds(record, clause) for clause in self.excluded)
            and self.admits(record)
        )

    def admits(self, record: Record) -> bool:
        """Whether the filters (not the words) let `record` through."""
        name = terms.normalise(record.name)
        return (
            (not self.type or record.type in self.type)
            and (not self.ext or any(name.endswith("." + ext) for ext in self.ext))
            and (self.min_size is None or record.size >= self.min_size)
            and (self.max_size is None or record.size <= self.max_size)
            and (self.newer is None or record.created >= self.newer)
            and (self.older is None or record.created < self.older)
            and (not self.publisher or any(_is_publisher(record, one) for one in self.publisher))
            and (not self.tag or set(self.tag) <= {terms.normalise(tag) for tag in record.tags})
        )

    def to_wire(self) -> dict[str, object]:
        """A map for msgpack; what is not asked for is left out."""
        found: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value != ():
                found[field.name] = _listed(value)
        return found

    @staticmethod
    def from_wire(message: object) -> Query:
        """The inverse, of what a stranger sent. Raises RemoteProtocolError; unknown keys are an error, because a
        filter that we do not know cannot be left out without giving wrong answers."""
        if not isinstance(message, dict) or len(message) > len(fields(Query)):
            raise RemoteProtocolError("a query is not a map of known keys")
        known = {field.name for field in fields(Query)}
        if not all(isinstance(key, str) and key in known for key in message):
            raise RemoteProtocolError("a query has an unknown key")
        query = Query(
            words=_terms(message.get("words", [])),
            phrases=tuple(_terms(phrase, least=1) for phrase in _list(message.get("phrases", []))),
            any_of=tuple(_clauses(group, least=1) for group in _list(message.get("any_of", []))),
            excluded=_clauses(message.get("excluded", [])),
            type=_texts(message.get("type", [])),
            ext=_texts(message.get("ext", [])),
            min_size=_whole(message.get("min_size")),
            max_size=_whole(message.get("max_size")),
            newer=_time(message.get("newer")),
            older=_time(message.get("older")),
            publisher=_texts(message.get("publisher", [])),
            tag=_texts(message.get("tag", [])),
        )
        try:
            query.check()
        except QueryError as error:
            raise RemoteProtocolError(f"a query is out of bounds: {error}") from None
        return query

    def check(self) -> None:
        """The bounds that hold on both sides. Raises QueryError."""
        clauses = [*self.words, *(" ".join(phrase) for phrase in self.phrases), *self.excluded]
        clauses += [clause for group in self.any_of for clause in group]
        if len(clauses) > MAX_CLAUSES:
            raise QueryError(f"A query may have at most {MAX_CLAUSES} words; this one has {len(clauses)}.")
        if sum(clause.count(" ") + 1 for clause in clauses) > MAX_QUERY_TERMS:
            raise QueryError(f"The query is too long: its words are more than {MAX_QUERY_TERMS} terms.")
        for kind in (self.type, self.ext, self.publisher, self.tag):
            if len(kind) > MAX_FILTERS:
                raise QueryError(f"A query may have at most {MAX_FILTERS} filters of one sort.")
        for one in self.type:
            if one not in TYPES:
                raise QueryError(f'There is no type "{shown(one)}"; the types are {", ".join(TYPES)}.')
        if not (self.words or self.phrases or self.any_of or self.filtered):
            raise QueryError("The query only says what to leave out; add a word to look for, or a filter.")

    @property
    def filtered(self) -> bool:
        """Whether anything but words narrows the results."""
        numbers = (self.min_size, self.max_size, self.newer, self.older)
        return bool(self.type or self.ext or self.publisher or self.tag) or any(n is not None for n in numbers)


def holds(record: Record, clause: str) -> bool:
    """Whether a clause holds in any one field of `record`."""
    return any(field_holds(sequence, clause) for sequence in record.terms.values())


def field_holds(sequence: list[str], clause: str) -> bool:
    """Whether the clause's terms stand side by side in one field's terms."""
    if " " not in clause:
        return clause in sequence
    return f" {clause} " in f" {' '.join(sequence)} "


def _is_publisher(record: Record, asked: str) -> bool:
    """A whole peer ID, its beginning or end of four characters or more, or the publisher's name."""
    if record.publisher_name and terms.normalise(asked) == terms.normalise(record.publisher_name):
        return True
    return len(asked) >= 4 and (record.publisher.startswith(asked) or record.publisher.endswith(asked))


def _listed(value: object) -> object:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > MAX_CLAUSES:
        raise RemoteProtocolError("a part of a query is not a short list")
    return value


def _terms(value: object, least: int = 0) -> tuple[str, ...]:
    if not isinstance(value, list) or not least <= len(value) <= MAX_QUERY_TERMS:
        raise RemoteProtocolError("a part of a query is not a short list of terms")
    if not all(isinstance(one, str) and terms.is_term(one) for one in value):
        raise RemoteProtocolError("a query has a word that is not a term")
    return tuple(value)


def _clauses(value: object, least: int = 0) -> tuple[str, ...]:
    found = _list(value)
    if len(found) < least:
        raise RemoteProtocolError("a query has an empty group")
    for clause in found:
        if not isinstance(clause, str) or len(clause) > (terms.MAX_TERM + 1) * MAX_QUERY_TERMS:
            raise RemoteProtocolError("a query has a clause that is not text")
        _terms(clause.split(" "), least=1)
    return tuple(str(clause) for clause in found)


def _texts(value: object) -> tuple[str, ...]:
    found = _list(value)
    for one in found:
        if not isinstance(one, str) or not 1 <= len(one) <= 128 or not one.isprintable():
            raise RemoteProtocolError("a query has a filter that is not a short printable text")
    return tuple(str(one) for one in found)


def _whole(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SIZE:
        raise RemoteProtocolError("a query has a size that is not a whole number in range")
    return value


def _time(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= MAX_TIME:
        raise RemoteProtocolError("a query has a time that is out of range")
    return float(value)


def shown(text: str) -> str:
    """The beginning of what somebody typed or sent, harmless in a sentence: marks that reorder text are "?"."""
    return "".join(char if char.isprintable() else "?" for char in text[:32])


def unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
