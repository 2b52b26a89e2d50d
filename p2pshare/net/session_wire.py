"""Bytes to and from the transport: a socket directly where there is one, any trio stream otherwise."""

from __future__ import annotations

import errno
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio

_UNSENT = 1 << 20
"""Bytes that the kernel may hold unsent (TCP_NOTSENT_LOWAT) at first: what is urgent waits behind no more."""
_PIECE = 1 << 16
_TCP_INFO = struct.Struct("=24xI28xI")  # of Linux's struct tcp_info: tcpi_unacked and tcpi_last_ack_recv


class Wire(ABC):
    """Counts what it moves, and raises what a trio stream raises."""

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0

    @abstractmethod
    async def send(self, data: memoryview) -> None: ...

    @abstractmethod
    async def receive_into(self, view: memoryview) -> int: ...

    @abstractmethod
    async def send_eof(self) -> None: ...

    @abstractmethod
    def pace(self, unsent: int) -> None:
        """Let the transport hold about this many bytes unsent, where it can."""

    def unacknowledged(self) -> float:
        """Seconds since the peer's kernel last acknowledged anything while something is under way to it.

        0 when nothing is, when the peer's window is closed, and where nobody knows.
        """
        return 0.0

    @abstractmethod
    async def aclose(self) -> None: ...

    @abstractmethod
    async def abort(self) -> None:
        """Close without waiting for anything; a cancelled task may call it under a shield."""


def make_wire(stream: trio.abc.Stream) -> Wire:
    """The fast path for exactly trio's own socket stream."""
    return _SocketWire(stream) if type(stream) is trio.SocketStream else _StreamWire(stream)


class _StreamWire(Wire):
    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__()
        self._stream = stream

    async def send(self, data: memoryview) -> None:
        for at in range(0, len(data), _PIECE):  # so that progress shows in bytes_out
            piece = data[at : at + _PIECE]
            await self._stream.send_all(piece)
            self.bytes_out += len(piece)

    async def receive_into(self, view: memoryview) -> int:
        data = await self._stream.receive_some(len(view))
        view[: len(data)] = data
        self.bytes_in += len(data)
        return len(data)

    def pace(self, unsent: int) -> None:
        return

    async def send_eof(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def abort(self) -> None:
        await trio.aclose_forcefully(self._stream)


class _SocketWire(Wire):
    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__()
        self._socket = stream.socket
        self._stream = stream
        self._sending = False
        self._unsent = 0
        self.pace(_UNSENT)

    def pace(self, unsent: int) -> None:
        tcp = self._socket.family in (socket.AF_INET, socket.AF_INET6)
        if tcp and unsent != self._unsent and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self._unsent = unsent
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)

    def unacknowledged(self) -> float:
        if not hasattr(socket, "TCP_INFO"):
            return 0.0
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            under_way, last_ack_milliseconds = _TCP_INFO.unpack(info)
        except (OSError, struct.error):  # no TCP, closed, another system's layout
            return 0.0
        return last_ack_milliseconds / 1000 if under_way else 0.0

    async def send(self, data: memoryview) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this session")
        self._sending = True
        try:
            with _mapped():
                at = 0
                while at < len(data):
                    sent = await self._socket.send(data[at:])
                    at += sent
                    self.bytes_out += sent
        finally:
            self._sending = False

    async def receive_into(self, view: memoryview) -> int:
        with _mapped():
            count = await self._socket.recv_into(view)
        self.bytes_in += count
        return count

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def abort(self) -> None:
        # A linger of zero makes the kernel send RST and forget what it has not sent.
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self._stream)


@contextmanager
def _mapped() -> Iterator[None]:
    """The socket's errors as those of a trio stream."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EBADF, errno.ENOTSOCK):
            raise trio.ClosedResourceError("this session was closed") from None
        raise trio.BrokenResourceError(f"the connection was lost: {error.strerror}") from error
