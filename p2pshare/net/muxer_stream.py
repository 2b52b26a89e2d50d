"""One stream of a muxed connection, as a trio stream. `muxer.py` moves its bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from types import TracebackType
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from p2pshare.net.muxer import Muxer

Buffer = bytes | bytearray | memoryview
_SMALL = 4096
"""Chunks under this are joined: a peer that sends single bytes costs us bytes, not objects."""


class MuxStream(trio.abc.HalfCloseableStream):
    """A stream inside a connection. One task may send and one receive at a time.

    `receive_some` returns b"" only after the peer's FIN; a reset or a lost connection raises BrokenResourceError.
    Leaving `async with` by an exception, and a cancelled `aclose`, reset it: the peer never sees a cut as an end.
    """

    def __init__(self, muxer: Muxer, id: int) -> None:
        self.id = id
        self.gone = trio.Event()  # nothing of it is left on the wire
        self._muxer = muxer
        self._chunks: deque[Buffer] = deque()  # views are lent: the session uses their memory again
        self._offset = 0  # bytes of the first chunk that were read
        self._held = 0  # bytes in the chunks that were not
        self._into: memoryview | None = None  # the buffer of a waiting receive_into
        self._filled = 0
        self._arrived: trio.Event | None = None
        self._receiving = False
        self._eof = False
        self._pending: memoryview | None = None  # what send_all has not handed over yet
        self._departed: trio.Event | None = None
        self._sending = False
        self._sent_eof = False
        self._closed = False
        self._broken = ""  # why no more can be sent
        self.queued = False  # the muxer has it in its round
        self.granted = 0  # window above the initial one
        self.granted_at = trio.current_time()

    # Sending.

    async def send_all(self, data: Buffer) -> None:
        """Send all of `data`; it may be changed once this returns. Waits while the peer takes no more.

        Raises BrokenResourceError (reset or lost), ClosedResourceError, BusyResourceError. Cancelled, an unknown
        part was sent.
        """
        with self._one_sender():
            self._check_sending()
            view = memoryview(data).cast("B")
            if not len(view):
                await trio.lowlevel.checkpoint()
                return
            await trio.lowlevel.checkpoint_if_cancelled()
            self._pending, self._departed = view, trio.Event()
            self._muxer.want_send(self)
            try:
                await self._departed.wait()
                if self._pending is not None:
                    self._check_sending()
            finally:
                self._pending = self._departed = None

    async def wait_send_all_might_not_block(self) -> None:
        with self._one_sender():
            self._check_sending()
            await trio.lowlevel.checkpoint_if_cancelled()
            self._departed = trio.Event()
            try:
                while not self._muxer.send_window(self):
                    await self._departed.wait()
                    self._check_sending()
                    self._departed = trio.Event()
                await trio.lowlevel.cancel_shielded_checkpoint()
            finally:
                self._departed = None

    async def send_eof(self) -> None:
        with self._one_sender():
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed")
            if self._broken:
                raise trio.BrokenResourceError(self._broken)
            await trio.lowlevel.checkpoint()
            self._finish()

    @contextmanager
    def _one_sender(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    def _check_sending(self) -> None:
        if self._closed or self._sent_eof:
            raise trio.ClosedResourceError("this stream was closed for sending")
        if self._broken:
            raise trio.BrokenResourceError(self._broken)

    def _finish(self) -> None:
        if not self._sent_eof:
            self._sent_eof = True
            if not self._broken:
                self._muxer.finish(self)

    # Receiving.

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come, at least one byte, at most `max_bytes`; b"" after the peer's proper end."""
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be positive")
        with self._one_receiver():
            await self._wait_arrival(None)
            if not self._chunks:
                return b""
            chunk, offset = self._chunks[0], self._offset
            count = min(max_bytes or len(chunk), len(chunk) - offset)
            whole = count == len(chunk) and isinstance(chunk, bytes)
            data = bytes(chunk) if whole else bytes(memoryview(chunk)[offset : offset + count])
            self._used(count)
            self._release(count)
            return data

    async def receive_into(self, view: Buffer) -> int:
        """Fill a writable buffer with what has come, at least one byte; the count, 0 after the proper end."""
        target = memoryview(view).cast("B")
        if not len(target):
            raise ValueError("the buffer is empty")
        with self._one_receiver():
            filled = await self._wait_arrival(target)
            if filled:
                self._muxer.consumed(self, filled)
            direct = filled
            while self._chunks and filled < len(target):
                chunk, offset = self._chunks[0], self._offset
                part = min(len(chunk) - offset, len(target) - filled)
                target[filled : filled + part] = memoryview(chunk)[offset : offset + part]
                filled += part
                self._used(part)
            self._release(filled - direct)
            return filled

    async def receive_exactly(self, count: int) -> bytes:
        """Exactly `count` bytes. Raises BrokenResourceError when the stream ends before."""
        out = bytearray(count)
        view = memoryview(out)
        while view:
            got = await self.receive_into(view)
            if not got:
                raise trio.BrokenResourceError(f"the stream ended {len(view)} bytes too early")
            view = view[got:]
        return bytes(out)

    @contextmanager
    def _one_receiver(self) -> Iterator[None]:
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            yield
        finally:
            self._receiving = False

    async def _wait_arrival(self, target: memoryview | None) -> int:
        """Wait for bytes or the end. Returns what was put straight into `target`."""
        self._check_receiving()
        if self._chunks or self._eof:
            await trio.lowlevel.checkpoint()
        while not self._chunks:
            self._check_receiving()
            if self._eof:
                return 0
            self._into, self._filled, self._arrived = target, 0, trio.Event()
            try:
                await self._arrived.wait()
                if self._filled:
                    return self._filled
            except trio.Cancelled:
                # Bytes may have come between the cancellation and this turn: they are not lost. Then the call has
                # succeeded, and the next checkpoint is cancelled instead.
                if self._filled:
                    return self._filled
                raise
            finally:
                self._into = self._arrived = None
        self._check_receiving()
        return 0

    def _check_receiving(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._broken and not self._eof and not self._chunks:
            raise trio.BrokenResourceError(self._broken)

    def _used(self, count: int) -> None:
        self._offset += count
        if self._offset == len(self._chunks[0]):
            self._chunks.popleft()
            self._offset = 0

    def _release(self, count: int) -> None:
        if count:
            self._held -= count
            self._muxer.release(count)
            self._muxer.consumed(self, count)

    # Closing.

    async def aclose(self) -> None:
        """Close both directions; what `send_all` returned for is delivered. Never waits for the peer."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        cut = self._pending is not None
        self._wake()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self.abort("this stream was closed")
            raise
        self._drop()
        if cut:
            self.abort("this stream was closed")
        else:
            self._finish()
            if not self._eof:
                self._muxer.linger(self)

    async def reset(self) -> None:
        """Abort both directions now; the peer sees a reset. Never waits for the peer."""
        self.abort("this stream was reset by us")
        await trio.lowlevel.checkpoint()

    def abort(self, why: str) -> None:
        """As `reset`, from code that may not wait."""
        self._closed = True
        self._eof = False
        self._muxer.reset(self)
        self.break_off(why, keep=False)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self.abort("this stream was left by an error")
        await self.aclose()

    # What the muxer tells.

    @property
    def closed(self) -> bool:
        return self._closed

    def pending(self) -> int:
        return len(self._pending) if self._pending is not None else 0

    def take(self, count: int) -> memoryview:
        """The next `count` bytes to send; send_all returns when it was all taken."""
        assert self._pending is not None
        assert self._departed is not None
        view = self._pending[:count]
        if count == len(self._pending):
            self._pending = None
            self._departed.set()
        else:
            self._pending = self._pending[count:]
        return view

    def may_send(self) -> None:
        """The window opened."""
        if self._pending is not None:
            self._muxer.want_send(self)
        elif self._departed is not None:
            self._departed.set()

    def room(self, size: int) -> memoryview | None:
        """Where the next `size` bytes belong, when a reader waits for as many."""
        end = self._filled + size
        if self._into is None or self._closed or end > len(self._into):
            return None
        return self._into[self._filled : end]

    def placed(self, size: int) -> None:
        """They are in what `room` gave."""
        self._filled += size
        self._wake_receiver()

    def deliver(self, data: memoryview) -> bool:
        """Take bytes that came. False when there is no room for them in the budget."""
        if self._into is not None and (room := len(self._into) - self._filled):
            part = min(room, len(data))
            self._into[self._filled : self._filled + part] = data[:part]
            self._filled += part
            data = data[part:]
            self._wake_receiver()
        if not len(data):
            return True
        if not self._muxer.hold(len(data)):
            return False
        self._held += len(data)
        last = self._chunks[-1] if self._chunks else None
        if len(data) >= _SMALL:
            if not isinstance(last, memoryview):
                self._muxer.lend(self)
            self._chunks.append(data)
        elif isinstance(last, bytearray) and len(last) < _SMALL:
            last += data
        else:
            self._chunks.append(bytearray(data))
        self._wake_receiver()
        return True

    @property
    def borrows(self) -> bool:
        """Whether something lies in memory that is the session's."""
        return any(isinstance(chunk, memoryview) for chunk in self._chunks)

    def own(self) -> None:
        """Copy what is borrowed: it will not be there much longer."""
        if self._offset and isinstance(first := self._chunks[0], memoryview):
            self._chunks[0], self._offset = first[self._offset :], 0
        self._chunks = deque(bytes(chunk) if isinstance(chunk, memoryview) else chunk for chunk in self._chunks)

    def end(self) -> None:
        """The peer finished."""
        self._eof = True
        self._wake_receiver()

    def break_off(self, why: str, *, keep: bool) -> None:
        """No more can be sent, and nothing comes any more; `keep` what has come and was not read."""
        self._broken = self._broken or why
        if not keep and not self._eof:
            self._drop()
        self._wake()

    def _drop(self) -> None:
        self._chunks.clear()
        self._offset = 0
        self._muxer.release(self._held)
        self._held = 0

    def _wake_receiver(self) -> None:
        if self._arrived is not None:
            self._arrived.set()

    def _wake(self) -> None:
        self._wake_receiver()
        if self._departed is not None:
            self._departed.set()
