"""Which piece to ask of which source, and when to give up on one. Pure: `now` is an argument, nothing is sent.

Each source has a window of outstanding bytes: its measured rate times its round trip and a margin, so that its pipe
is never empty and a slow source never holds more than it can deliver soon. When no piece is free, a source with room
asks for one that is late at a slower source; the first to deliver wins and the other is cancelled (the end game). A
source that makes no progress is parked: its pieces go to others, and it is asked again as soon as it is heard again.

The sum of all outstanding pieces is what a fetch may hold in memory; `max_outstanding` bounds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from p2pshare_protocols.bitmap import Bitmap

MARGIN: Final = 0.25  # seconds of data asked for above the round trip: covers disk and scheduling at the source
MIN_PIECES: Final = 2  # one on its way, one being read
START_WINDOW: Final = 4 << 20  # bytes outstanding at a source whose rate is still growing: a pipe that runs dry then
# is taken by its congestion control for a slow path
START_RATE: Final = 40e6  # bytes a second; a source with a long round trip starts with this times it, if that is more
START: Final = 2.0  # seconds from a source's first piece for which it counts as growing
MAX_WINDOW: Final = 16 << 20  # bytes outstanding at one source
REFILL: Final = 4 << 20  # bytes of a window that are left free until they are asked for in one go
MAX_OUTSTANDING: Final = 32 << 20  # bytes outstanding at all sources of one fetch
STALL: Final = 2.0  # seconds without a byte before a source may count as stalled
STALL_UNKNOWN: Final = 10.0  # the same for a source that has not delivered yet: its reads may start from a cold disk
SILENT: Final = 1.0  # seconds without a byte after which it is worth to look whether its connection still lives
SILENT_UNKNOWN: Final = 3.0  # the same for a source that has not delivered yet
SILENT_FACTOR: Final = 4.0  # times its longest gap so far, or its round trip
STALL_FACTOR: Final = 4.0  # times the expected time of a piece
GAIN: Final = 1.5  # an outstanding piece is asked again only if the owner needs this many times our time
UNKNOWN_RTT: Final = 0.05
UNMEASURED: Final = 1.0  # seconds before a source that has not been measured may ask for another's piece
SCAN: Final = 4096  # pieces looked at for one choice
RARE_SCAN: Final = 64  # free pieces compared by rarity for one choice

_FREE, _OUT, _DONE = 0, 1, 2


@dataclass(slots=True)
class SourceState:
    """What is known of one source. Rates are bytes a second; None until measured."""

    name: str
    joined: float
    has: Bitmap | None  # None: everything
    rate: float | None = None
    rtt: float = UNKNOWN_RTT
    most_rtt: float = 2.0  # it is not longer than this
    out: dict[int, float] = field(default_factory=dict)  # piece -> when asked, in the order asked
    out_bytes: int = 0
    lacks: set[int] = field(default_factory=set)
    progress: float = 0.0  # when its last byte came, or when it was asked after being idle
    received: int = 0
    busy_since: float = 0.0
    busy_bytes: int = 0
    delivered: bool = False
    first: float = 0.0  # when its first piece had come
    cursor: int = 0
    parked: bool = False
    retired: bool = False  # finishes what it was asked for
    coming: set[int] = field(default_factory=set)  # taken from it when it was parked; they may come yet
    gap: float = 0.0  # the longest time between two bytes


@dataclass(frozen=True, slots=True)
class Cancelled:
    """This source need not send this piece any more."""

    source: str
    piece: int


class Scheduler:
    """Pieces 0..n-1 of the given sizes. `start` is where a fetch begins that need not be in order.

    Fetchers that begin at different places soon have what the others lack; `start` should be random.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        done: Bitmap | None = None,
        *,
        sequential: bool = False,
        start: int = 0,
        max_outstanding: int = MAX_OUTSTANDING,
        start_window: int = START_WINDOW,
    ) -> None:
        self.sizes = sizes
        self.sources: dict[str, SourceState] = {}
        self.banned: set[str] = set()
        self.outstanding = 0  # bytes; a piece that is asked twice counts twice
        self._state = bytearray(len(sizes))
        self._left = len(sizes)
        self._largest = max(sizes, default=0)
        self._free = len(sizes)
        self._askers: dict[int, int] = {}
        self._rarity: dict[int, int] = {}
        self._sequential = sequential
        self._start = 0 if sequential or not sizes else start % len(sizes)
        self._cursor = self._start
        self._max = max_outstanding
        self._start_window = start_window
        for piece in done or ():
            self._state[piece] = _DONE
            self._left -= 1
            self._free -= 1

    # -- sources come and go --

    def join(self, source: str, now: float, has: Bitmap | None = None, rtt: float | None = None) -> None:
        """A new source, or a known one with a newer bitmap of pieces (None: everything). The banned stay out.

        `rtt`: seconds that it took to answer a small question; None: taken from its first piece.
        """
        if source in self.banned:
            return
        state = self.sources.get(source)
        if state is None:
            self.sources[source] = state = SourceState(source, now, has, cursor=self._start)
            if rtt is not None:
                state.rtt = state.most_rtt = rtt
        else:
            self._count_rarity(state.has, -1)
            state.has = has
            state.lacks.clear()
        self._count_rarity(has, 1)

    def leave(self, source: str) -> None:
        """The source is gone; its pieces are free again."""
        state = self.sources.pop(source, None)
        if state is not None:
            self._count_rarity(state.has, -1)
            for piece in list(state.out):
                self._drop(state, piece)

    def ban(self, source: str) -> None:
        """It sent a wrong block: nothing more is asked of it in this fetch."""
        self.banned.add(source)
        self.leave(source)

    def _count_rarity(self, has: Bitmap | None, by: int) -> None:
        for piece in has or ():
            self._rarity[piece] = self._rarity.get(piece, 0) + by

    # -- what to ask --

    def ask(self, source: str, now: float) -> list[int]:
        """The pieces to ask of this source now; they count as asked."""
        state = self.sources.get(source)
        asked: list[int] = []
        if state is None or state.parked or state.retired or not self._is_worth_it(state, now):
            return asked
        while self._has_room(state, now):
            piece = self._choose(state)
            if piece is None:
                piece = self._choose_again(state, now)
            if piece is None:
                break
            self._take(state, piece, now)
            asked.append(piece)
        return asked

    def window(self, source: str, now: float) -> int:
        """Bytes that may be outstanding at this source."""
        return self._window(self.sources[source], now)

    def _window(self, state: SourceState, now: float) -> int:
        window = int((state.rate or 0.0) * (state.rtt + MARGIN))
        if self._start_window and (not state.delivered or now - state.first < START):
            window = max(window, self._start_window, int(START_RATE * state.rtt))
        return min(MAX_WINDOW, window)

    def _is_worth_it(self, state: SourceState, now: float) -> bool:
        """Requests cost both sides: a source whose pipe is well filled is asked for several pieces at a time."""
        window = self._window(state, now)
        return len(state.out) < MIN_PIECES or window - state.out_bytes >= min(window // 4, REFILL)

    def _has_room(self, state: SourceState, now: float) -> bool:
        if self.outstanding and self.outstanding >= self._max:
            return False
        return len(state.out) < MIN_PIECES or state.out_bytes < self._window(state, now)

    def _holds(self, state: SourceState, piece: int) -> bool:
        return (state.has is None or piece in state.has) and piece not in state.lacks and piece not in state.coming

    def _choose(self, state: SourceState) -> int | None:
        """A free piece that the source has: the next in order, or the rarest among the next ones."""
        whole = state.has is None and not state.lacks
        at = self._cursor if whole else state.cursor
        best: int | None = None
        candidates = RARE_SCAN if self._rarity and not self._sequential else 1
        for _ in range(min(SCAN, self._free)):
            found = self._state.find(_FREE, at)
            if found < 0:
                found = self._state.find(_FREE)
            at = found + 1
            if self._holds(state, found):
                if best is None or self._rarity.get(found, 0) < self._rarity.get(best, 0):
                    best = found
                candidates -= 1
                if not candidates:
                    break
        if whole and best is not None and not self._rarity:
            self._cursor = best
        elif not whole and not self._sequential:
            state.cursor = at if best is None else best
        return best

    def _choose_again(self, state: SourceState, now: float) -> int | None:
        """A piece that is late at a slower source. Only once nothing that this source has is free."""
        best: int | None = None
        latest = 0.0
        mine = self._expected(state)
        for owner in self.sources.values():
            if owner is state:
                continue
            ahead = 0
            for piece in owner.out:
                ahead += self.sizes[piece]
                if self._askers[piece] > 1 or piece in state.out or not self._holds(state, piece):
                    continue
                rest = self._time(owner, ahead)
                late = now - owner.out[piece] > max(UNMEASURED, GAIN * mine)
                if rest > latest and (late or (state.rate is not None and rest > GAIN * mine)):
                    best, latest = piece, rest
        return best

    @staticmethod
    def _time(state: SourceState, size: int) -> float:
        """Seconds that the source needs for `size` bytes; an unmeasured one counts as 1 MiB/s."""
        return state.rtt + size / (state.rate or float(1 << 20))

    def _expected(self, state: SourceState) -> float:
        return self._time(state, state.out_bytes + self._largest)

    def _take(self, state: SourceState, piece: int, now: float) -> None:
        if not state.out:
            state.progress = state.busy_since = now
            state.busy_bytes = 0
        if self._state[piece] == _FREE:
            self._free -= 1
            self._state[piece] = _OUT
        self._askers[piece] = self._askers.get(piece, 0) + 1
        state.out[piece] = now
        state.out_bytes += self.sizes[piece]
        self.outstanding += self.sizes[piece]

    def _drop(self, state: SourceState, piece: int) -> None:
        """The source is not asked for the piece any more; if nobody is, the piece is free."""
        del state.out[piece]
        state.out_bytes -= self.sizes[piece]
        self.outstanding -= self.sizes[piece]
        self._askers[piece] -= 1
        if not self._askers[piece]:
            del self._askers[piece]
            if self._state[piece] == _OUT:
                self._state[piece] = _FREE
                self._free += 1
                self._cursor = min(self._cursor, piece)

    # -- what came --

    def heard(self, source: str, count: int, now: float) -> None:
        """`count` bytes of some piece came. Cheap: call it for every chunk that is read."""
        state = self.sources.get(source)
        if state is not None:
            if count and state.parked:
                self._unpark(state, now)
            elif count and state.delivered:
                state.gap = max(state.gap, now - state.progress)
            state.progress = now
            state.received += count
            state.busy_bytes += count

    def park(self, source: str) -> None:
        """It is silent: others get its pieces. It is asked for nothing until it is heard again."""
        state = self.sources.get(source)
        if state is not None and not state.parked:
            state.parked = True
            state.coming.update(state.out)
            for piece in list(state.out):
                self._drop(state, piece)

    def _unpark(self, state: SourceState, now: float) -> None:
        """What nobody else was asked for meanwhile is on its way from it as before."""
        state.parked = False
        state.busy_since, state.busy_bytes = now, 0
        for piece in sorted(state.coming):
            if self._state[piece] == _FREE:
                state.coming.discard(piece)
                self._take(state, piece, now)

    def retire(self, source: str) -> None:
        """Ask it for nothing more; `finished_with` tells when it can go."""
        state = self.sources.get(source)
        if state is not None:
            state.retired = True

    def finished_with(self) -> list[str]:
        """Retired sources that owe nothing any more."""
        return [state.name for state in self.sources.values() if state.retired and not state.out]

    def silent(self, now: float) -> list[str]:
        """Sources that owe something and were not heard for longer than they ever were: is the connection alive?"""
        return [s.name for s in self.sources.values() if (s.out or s.coming) and now - s.progress > self._quiet(s)]

    @staticmethod
    def _quiet(state: SourceState) -> float:
        least = SILENT if state.delivered else SILENT_UNKNOWN
        return max(least, SILENT_FACTOR * state.rtt, SILENT_FACTOR * state.gap)

    def delivered(self, source: str, piece: int, now: float) -> list[Cancelled]:
        """The piece came, is verified and written. Returns who else need not send it."""
        state = self.sources.get(source)
        if state is not None:
            state.coming.discard(piece)
            if piece in state.out:
                self._measure(state, piece, now)
                self._drop(state, piece)
        if self._state[piece] == _DONE:
            return []
        if self._state[piece] == _FREE:
            self._free -= 1
        self._state[piece] = _DONE
        self._left -= 1
        others = [other for other in self.sources.values() if piece in other.out or piece in other.coming]
        for other in others:
            other.coming.discard(piece)
            if piece in other.out:
                self._drop(other, piece)
        return [Cancelled(other.name, piece) for other in others]

    @staticmethod
    def _measure(state: SourceState, piece: int, now: float) -> None:
        if not state.delivered:
            # The first piece takes its transmission too, which a limited source draws out; later ones wait behind
            # each other.
            state.delivered = True
            state.first = now
            state.rtt = max(0.0005, min(state.most_rtt, now - state.out[piece]))
        elapsed = now - state.busy_since
        if elapsed >= 0.01 and state.busy_bytes:
            sample = state.busy_bytes / elapsed
            state.rate = sample if state.rate is None else 0.7 * state.rate + 0.3 * sample
            if elapsed >= 0.5:
                state.busy_since, state.busy_bytes = now, 0

    def lacking(self, source: str, piece: int) -> None:
        """The source says that it does not have the piece (missing, changed, busy). It is not asked for it again."""
        state = self.sources.get(source)
        if state is not None:
            state.lacks.add(piece)
            state.coming.discard(piece)
            if piece in state.out:
                self._drop(state, piece)

    def stalled(self, now: float) -> list[str]:
        """Sources that hold pieces and make no progress. The caller should `park` them."""
        return [
            state.name for state in self.sources.values() if state.out and now - state.progress > self._patience(state)
        ]

    def _patience(self, state: SourceState) -> float:
        if state.rate is None:
            return STALL_UNKNOWN
        piece = next(iter(state.out))
        return max(STALL, STALL_FACTOR * self._time(state, self.sizes[piece]))

    # -- how it stands --

    @property
    def finished(self) -> bool:
        return not self._left

    @property
    def left(self) -> int:
        """Pieces that are not verified yet."""
        return self._left

    @property
    def ending(self) -> bool:
        """Every piece that is left was asked for."""
        return not self._free

    def is_done(self, piece: int) -> bool:
        return self._state[piece] == _DONE

    def wanted_from(self, source: str) -> bool:
        """Whether the source may have a piece that is left. False: it can be let go until it has more."""
        state = self.sources.get(source)
        if state is None or state.parked:
            return False
        if state.has is None:
            return len(state.lacks) < self._left or any(
                self._state[piece] != _DONE and piece not in state.lacks for piece in range(len(self._state))
            )
        return any(self._state[piece] != _DONE and piece not in state.lacks for piece in state.has)
