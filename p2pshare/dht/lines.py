"""Questions to other nodes: one stream kept for each peer, several questions in flight on it, answers in order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from p2pshare.dht.framing import MessageReader
from p2pshare.errors import RemoteError, TimedOut
from p2pshare.net.api import Network, Stream
from p2pshare_protocols import kad_messages
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.kad_messages import Message

HARD_LIMIT = 10.0
"""Seconds for opening the stream and again for an answer; a lookup stops waiting long before."""
MAX_LINES = 256
MAX_PENDING = 16
"""Questions in flight on one line; a further one waits."""
IDLE = 60.0
STRICT = "/p2pshare/"
"""Protocols whose nodes never name the asker to itself. On /ipfs/kad/1.0.0 js-libp2p does, and means no harm."""


T = TypeVar("T")


class _Broken(Exception):
    """The line broke before the answer came."""


class _Pending:
    def __init__(self, question: Message) -> None:
        self.question = question
        self.done = trio.Event()
        self.answer: Message | None = None


class _Line:
    """One open stream. `run` reads the answers until it ends; `on_wrong` is called if one breaks the rules."""

    def __init__(self, stream: Stream, own_id: str, on_wrong: Callable[[], None]) -> None:
        self.stream = stream
        self._own_id = own_id
        self._on_wrong = on_wrong
        self.wrong = False
        self.pending: deque[_Pending] = deque()
        self.room = trio.Semaphore(MAX_PENDING)
        self.sending = trio.Lock()
        self.broken = False
        self.used = trio.current_time()

    async def run(self) -> None:
        reader = MessageReader(self.stream)
        try:
            while (answer := await reader.next()) is not None:
                if not self.pending:
                    raise RemoteProtocolError("a DHT answer to no question")
                kad_messages.check_answer(self.pending[0].question, answer, self._own_id)
                waiting = self.pending.popleft()
                waiting.answer = answer
                waiting.done.set()
        except RemoteProtocolError:
            self.wrong = True
            self._on_wrong()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            with trio.CancelScope(shield=True):
                await self.kill()

    async def kill(self) -> None:
        """Resets the stream; all who wait learn it."""
        if self.broken:
            return
        self.broken = True
        while self.pending:
            self.pending.popleft().done.set()
        await self.stream.reset()

    async def send(self, frames: bytes, pending: _Pending | None) -> None:
        """Raises _Broken. A send that is cut off half-way ends the line: what follows would be misread."""
        await _acquire(self.sending)
        try:
            if self.broken:
                raise _Broken
            if pending is not None:
                self.pending.append(pending)
            self.used = trio.current_time()
            whole = False
            try:
                await self.stream.send_all(frames)
                whole = True
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise _Broken from None
            finally:
                if not whole:
                    with trio.CancelScope(shield=True):
                        await self.kill()
        finally:
            self.sending.release()


async def _acquire(limit: trio.Semaphore | trio.Lock) -> None:
    """Without giving the turn away when it is free: that would be as dear as the rest of a question."""
    try:
        limit.acquire_nowait()
    except trio.WouldBlock:
        await limit.acquire()


class Lines:
    """The pool of lines of one network. `nursery` lives as long as the DHT.

    `on_wrong` hears of each peer whose answer was no message, or none to its question; its stream is reset.
    """

    def __init__(
        self,
        net: Network,
        protocol: str,
        nursery: trio.Nursery,
        *,
        limit: float = HARD_LIMIT,
        on_wrong: Callable[[str], None] = lambda peer_id: None,
    ) -> None:
        self._net = net
        self._protocol = protocol
        self._nursery = nursery
        self._limit = limit
        self._on_wrong = on_wrong
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self._opening: dict[str, trio.Lock] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._lines

    async def ask(self, peer_id: str, message: Message, *, after: Message | None = None) -> Message:
        """The answer to one question, sent behind `after`, which has none, in one write.

        Raises RemoteError (TimedOut when it does not come within the limit).
        """
        frames = kad_messages.frame(message)
        if after is not None:
            frames = kad_messages.frame(after) + frames

        async def attempt(line: _Line) -> Message:
            pending = _Pending(message)
            await _acquire(line.room)
            try:
                await line.send(frames, pending)
                await pending.done.wait()
            finally:
                line.room.release()
            if pending.answer is None:
                raise _Broken
            return pending.answer

        return await self._on_line(peer_id, attempt)

    async def tell_many(self, peer_id: str, messages: Sequence[Message]) -> None:
        """Sends several messages that have no answer at once. Raises RemoteError."""
        frames = b"".join(map(kad_messages.frame, messages))
        await self._on_line(peer_id, lambda line: line.send(frames, None))

    async def close_idle(self) -> None:
        """Ends lines that nobody used for IDLE seconds, and those whose answer is overdue though nobody waits."""
        now = trio.current_time()
        for peer_id, line in list(self._lines.items()):
            age = now - line.used
            if line.broken or age > (self._limit if line.pending else IDLE):
                self._lines.pop(peer_id, None)
                await line.kill()

    async def _on_line(self, peer_id: str, attempt: Callable[[_Line], Awaitable[T]]) -> T:
        """Tries once more, on a new stream, when one that was kept turns out to be broken."""
        while True:
            line, kept = await self._line(peer_id)
            try:
                with trio.fail_after(self._limit):
                    return await attempt(line)
            except trio.TooSlowError:
                await line.kill()
                raise TimedOut("a DHT node did not answer in time") from None
            except _Broken:
                if line.wrong:
                    raise RemoteError("a DHT node broke the protocol's rules", kind="failed") from None
                if not kept:
                    raise RemoteError("a DHT node ended the stream instead of answering", kind="failed") from None

    async def _line(self, peer_id: str) -> tuple[_Line, bool]:
        """The line to a peer, and whether it was there already."""
        line = self._lines.get(peer_id)
        if line is not None and not line.broken:
            self._lines.move_to_end(peer_id)
            return line, True
        async with self._opening.setdefault(peer_id, trio.Lock()):
            try:
                line = self._lines.get(peer_id)
                if line is not None and not line.broken:
                    self._lines.move_to_end(peer_id)
                    return line, True
                stream = await self._net.open_stream(peer_id, [self._protocol], timeout=self._limit)
                own_id = self._net.peer_id if self._protocol.startswith(STRICT) else ""
                line = _Line(stream, own_id, partial(self._on_wrong, peer_id))
                self._lines[peer_id] = line
                self._lines.move_to_end(peer_id)
                self._nursery.start_soon(self._run, peer_id, line)
            finally:
                if not self._opening[peer_id].statistics().tasks_waiting:
                    del self._opening[peer_id]
        await self._make_room()
        return line, False

    async def _make_room(self) -> None:
        if len(self._lines) > MAX_LINES:
            idle = [peer_id for peer_id, line in self._lines.items() if not line.pending]
            oldest = idle[0] if idle else next(iter(self._lines))
            await self._lines.pop(oldest).kill()

    async def _run(self, peer_id: str, line: _Line) -> None:
        await line.run()
        if self._lines.get(peer_id) is line:
            del self._lines[peer_id]
