"""The socket itself: bound, private, counted; each connection is handed to the one who speaks its framing."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from p2pshare.control.api import Host
from p2pshare.control.channel import READ_SIZE
from p2pshare.control.connection import MessageConnection
from p2pshare.control.http import HttpConnection
from p2pshare.errors import Exists, PermissionDenied, from_os_error
from p2pshare_protocols import control
from p2pshare_protocols.control import Framing
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.places import short_socket_path, socket_path_fits

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
BACKLOG = 128
FLUSH_TIME = 1.0  # seconds for the last answers when the server closes


class ControlServer:
    """Serves until its context is left. Made by `open_server`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._connections: set[MessageConnection | HttpConnection] = set()
        self._count = 0

    async def end_requests(self, patience: float) -> None:
        """Answer every request in flight with kind cancelled, and wait until they have let go of the node.

        A method that does not heed its cancellation is left behind after `patience` seconds.
        """
        with trio.move_on_after(patience):
            while busy := [connection for connection in self._connections if connection.busy]:
                for connection in busy:
                    connection.cancel_requests()
                await trio.sleep(0.005)

    def finish(self) -> None:
        """Let every connection end as soon as its last answers are sent."""
        for connection in list(self._connections):
            connection.finish()

    async def accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:  # out of descriptors: those that are open go on
                logger.warning("control: could not accept a connection: %s", error.strerror)
                await trio.sleep(0.1)
                continue
            if self._count == MAX_CONNECTIONS or not _same_user(stream):
                await trio.aclose_forcefully(stream)
                continue
            self._count += 1
            connections.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await self._talk(stream)
        except trio.BrokenResourceError:
            pass  # the client went away
        except Exception:  # a defect met by one client must not end the daemon
            logger.exception("control: a connection failed")
        finally:
            self._count -= 1

    async def _talk(self, stream: trio.SocketStream) -> None:
        first = await stream.receive_some(READ_SIZE)
        if not first:
            return
        try:
            framing = control.framing_of(first[0])
        except RemoteProtocolError as error:
            logger.debug("control: %s", error)
            return
        connection = (
            HttpConnection(stream, self._host)
            if framing is Framing.HTTP
            else MessageConnection(stream, framing, self._host)
        )
        self._connections.add(connection)
        try:
            await connection.run(first)
        finally:
            self._connections.discard(connection)


@asynccontextmanager
async def open_server(path: str, host: Host) -> AsyncIterator[ControlServer]:
    """Listen at `path` and serve while the context is open; the socket file goes when it is left.

    The caller holds the home's lock: a socket file that is there already is a dead daemon's, and is replaced.
    On leaving, requests in flight are cancelled and their last answers get FLUSH_TIME. Raises LocalError.
    """
    listening = _bind(path)
    server = ControlServer(host)
    try:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(server.accept, trio.SocketListener(listening), connections)
                yield server
                accepting.cancel_scope.cancel()
            server.finish()
            connections.cancel_scope.deadline = trio.current_time() + FLUSH_TIME
    finally:
        listening.close()
        with contextlib.suppress(OSError), _short(path) as short:
            os.unlink(short)


def _bind(path: str) -> trio.socket.SocketType:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as short:
            _remove_stale(short, path)
            listening.bind(short)
            os.chmod(short, 0o600)  # its directory is 0700: nobody can come in between
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise from_os_error(error, f"listen at {path}") from error
    except BaseException:
        listening.close()
        raise
    return trio.socket.from_stdlib_socket(listening)


@contextmanager
def _short(path: str) -> Iterator[str]:
    """A path to the same file that fits a socket's address, valid inside the context."""
    if socket_path_fits(os.fsencode(path)):
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield short_socket_path(path, directory)
    finally:
        os.close(directory)


def _remove_stale(short: str, path: str) -> None:
    try:
        about = os.lstat(short)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(about.st_mode):
        raise Exists(f"{path} is in the way: it is not a socket", hint="Move it away.")
    if about.st_uid != os.geteuid():
        raise PermissionDenied(f"{path} belongs to another user (uid {about.st_uid})")
    os.unlink(short)


def _same_user(stream: trio.SocketStream) -> bool:
    """Whether the peer runs as our user or as root (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if uid in {os.geteuid(), 0}:
        return True
    logger.warning("control: refused a connection of uid %d", uid)
    return False
