"""What a side of a yamux connection keeps of each stream, and counts of all."""

from __future__ import annotations

from dataclasses import dataclass

from p2pshare_protocols.yamux_events import State

INITIAL_WINDOW = 256 * 1024


@dataclass(slots=True)
class Stream:
    id: int
    acknowledged: bool
    state: State = State.OPEN
    send_window: int = INITIAL_WINDOW
    receive_window: int = INITIAL_WINDOW  # what the peer may still send
    size: int = INITIAL_WINDOW  # what receive_window is when all is consumed
    consumed: int = 0  # used up and not granted again yet


@dataclass(slots=True)
class Body:
    """The DATA frame that is being received. `stream` None: a late frame, dropped."""

    stream: Stream | None
    left: int
    flags: int
    id: int


@dataclass(slots=True)
class Counts:
    """Streams that live now, by who opened them; `refused`: of the peer's, in a row."""

    inbound: int = 0
    outbound: int = 0
    unacknowledged: int = 0
    refused: int = 0
