"""A set with an order in which members can be put behind any other, and removed, in constant time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Ordered(Generic[T]):
    """A doubly linked list over hashable members, each at most once. None stands for the end before the first."""

    def __init__(self) -> None:
        self._next: dict[T | None, T | None] = {None: None}
        self._previous: dict[T | None, T | None] = {None: None}

    def __len__(self) -> int:
        return len(self._next) - 1

    def __contains__(self, member: T) -> bool:
        return member in self._next

    def insert_after(self, place: T | None, member: T) -> None:
        """Put a new member behind `place` (None: in front of all). Raises KeyError when `place` is no member."""
        behind = self._next[place]
        self._next[place] = member
        self._next[member] = behind
        self._previous[member] = place
        self._previous[behind] = member

    def remove(self, member: T) -> None:
        before, behind = self._previous.pop(member), self._next.pop(member)
        self._next[before] = behind
        self._previous[behind] = before

    def first(self, limit: int | None = None) -> list[T]:
        """The members in order: the first `limit`, or all."""
        out: list[T] = []
        at = self._next[None]
        while at is not None and (limit is None or len(out) < limit):
            out.append(at)
            at = self._next[at]
        return out
