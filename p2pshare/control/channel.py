"""What both kinds of connection (messages, HTTP) need of a socket: sending that a slow reader cannot hold up, and
noticing that the other side is gone while nothing is read."""

from __future__ import annotations

import select

import trio

READ_SIZE = 1 << 16
SEND_TIMEOUT = 10.0  # seconds without progress, after which a reader is dropped
HANGUP_POLL = 1.0  # seconds between looks at a connection that the client has half closed


class SlowReader(Exception):
    """The client took nothing for SEND_TIMEOUT."""


async def send(stream: trio.abc.SendStream, data: bytes) -> None:
    """Send all while the reader makes progress. Raises SlowReader, or trio.BrokenResourceError."""
    for start in range(0, len(data), READ_SIZE):
        with trio.move_on_after(SEND_TIMEOUT) as scope:
            await stream.send_all(data[start : start + READ_SIZE])
        if scope.cancelled_caught:
            raise SlowReader


async def wait_hangup(socket: trio.socket.SocketType) -> None:
    """Return when the other side closed altogether. Nobody may read meanwhile.

    A half close (`printf … | nc -U`) is not that: such a client still waits for its answers.
    """
    poller = select.poll()
    poller.register(socket.fileno(), 0)  # POLLHUP and POLLERR are reported unasked
    while not poller.poll(0):
        await trio.lowlevel.wait_readable(socket.fileno())
        if poller.poll(0):
            return
        await trio.sleep(HANGUP_POLL)
