"""The states of a yamux stream, the table of what each side may do in them, and the events that come out.

`yamux.py` tells what the table means.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    OPEN = "open"
    LOCAL_CLOSED = "local closed"
    REMOTE_CLOSED = "remote closed"
    CLOSED = "closed"


class Move(Enum):
    THEY_DATA = "they send data"
    THEY_FIN = "they finish"
    THEY_RST = "they reset"
    WE_DATA = "we send data"
    WE_FIN = "we finish"
    WE_RST = "we reset"


TRANSITIONS: dict[tuple[State, Move], State] = {
    (State.OPEN, Move.THEY_DATA): State.OPEN,
    (State.OPEN, Move.THEY_FIN): State.REMOTE_CLOSED,
    (State.OPEN, Move.THEY_RST): State.CLOSED,
    (State.OPEN, Move.WE_DATA): State.OPEN,
    (State.OPEN, Move.WE_FIN): State.LOCAL_CLOSED,
    (State.OPEN, Move.WE_RST): State.CLOSED,
    (State.LOCAL_CLOSED, Move.THEY_DATA): State.LOCAL_CLOSED,
    (State.LOCAL_CLOSED, Move.THEY_FIN): State.CLOSED,
    (State.LOCAL_CLOSED, Move.THEY_RST): State.CLOSED,
    (State.LOCAL_CLOSED, Move.WE_RST): State.CLOSED,
    (State.REMOTE_CLOSED, Move.THEY_FIN): State.REMOTE_CLOSED,  # some close twice; it changes nothing
    (State.REMOTE_CLOSED, Move.THEY_RST): State.CLOSED,
    (State.REMOTE_CLOSED, Move.WE_DATA): State.REMOTE_CLOSED,
    (State.REMOTE_CLOSED, Move.WE_FIN): State.CLOSED,
    (State.REMOTE_CLOSED, Move.WE_RST): State.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer accepted a stream that we opened."""

    stream: int


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes of a stream, valid as long as the buffer given to `receive`. Call `consumed` when they are used up."""

    stream: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """The peer takes more bytes of a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The peer sends no more on a stream: a proper end."""

    stream: int


@dataclass(frozen=True, slots=True)
class WasReset:
    """The peer aborted a stream. Bytes that it finished before are whole, everything else is lost."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ponged:
    """The peer answered our ping with this value."""

    value: int


@dataclass(frozen=True, slots=True)
class WentAway:
    """The peer opens and accepts no more streams, for the reason given (NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR)."""

    reason: int


Event = Opened | Acknowledged | Received | WindowOpened | Finished | WasReset | Ponged | WentAway
