"""TCP under the switch: sockets to listen on, and a stream that counts its bytes."""

from __future__ import annotations

import errno
import ipaddress
import logging
import math
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import trio

from p2pshare.errors import Exists, LocalError, PermissionDenied
from p2pshare.net import descriptors
from p2pshare.net.addresses import IP, listen_target

_log = logging.getLogger(__name__)

_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn; who finds it full tries again a second later
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.ECONNRESET)  # it went away before it was accepted
_WMEM = Path("/proc/sys/net/ipv4/tcp_wmem")  # least, first and largest send buffer of the kernel's tuning
_SEND_BUFFER = 8 << 20  # bytes; the kernel doubles it, and cuts it to twice net.core.wmem_max
TO_OTHERS, ON_LOOPBACK = "bbr", "cubic"
_PAUSE = 0.2  # seconds to wait when it is our side that cannot: no descriptors, no memory
_COMPLAIN_EVERY = 60.0  # seconds
_SYN_AGAIN = 0.5  # seconds
_NOTHING_LEFT = struct.pack("ii", 1, 0)  # struct linger of socket(7)
_AT_ONCE = 64  # connections accepted in one go


def stream_over(sock: trio.socket.SocketType) -> trio.SocketStream:
    """A connected socket as a stream, without Nagle's delay and with the congestion control for its path."""
    stream = trio.SocketStream(sock)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError, ValueError):
        _fit_to_path(sock)
    return stream


def _fit_to_path(sock: trio.socket.SocketType) -> None:
    ip = ipaddress.ip_address(str(sock.getpeername()[0]).partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if not ip.is_loopback:
        _widen(sock)
    if hasattr(socket, "TCP_CONGESTION"):
        _choose_congestion(sock, ip)


def _widen(sock: trio.socket.SocketType) -> None:
    """A larger send buffer than TCP's own tuning reaches, where the kernel gives one.

    The tuning stops at tcp_wmem's 4 MiB, of which 3 MB can be under way: 15 MB/s at a round trip of 200 ms. What has
    not left yet stays bounded by TCP_NOTSENT_LOWAT, so this costs memory only on paths that need it. Asking for less
    than the tuning reaches would end the tuning, so a socket of no use is asked first.
    """
    tuned = int(_WMEM.read_text().split()[2])
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        given = probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    if given > tuned:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


def _choose_congestion(sock: trio.socket.SocketType, ip: IP) -> None:
    """BBR towards other machines, cubic within this one, where the kernel lets us choose.

    Loss that is not congestion (radio, bad lines) makes cubic slow down, BBR not: at 40 ms and 0.1 % loss it moves
    several times as much (docs/performance.md). On loopback its pacing only costs time.
    """
    wanted = ON_LOOPBACK if ip.is_loopback else TO_OTHERS
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, wanted.encode())


def congestion_of(sock: trio.socket.SocketType) -> str:
    """The congestion control that a socket uses, "" where the kernel does not tell."""
    if not hasattr(socket, "TCP_CONGESTION"):
        return ""
    try:
        name: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    except OSError:
        return ""
    return name.rstrip(b"\0").decode("ascii", "replace")


async def bind(addresses: Sequence[str]) -> list[trio.socket.SocketType]:
    """Listening sockets for multiaddrs; port 0 takes a free one. Raises ConfigError, Exists, other LocalErrors.

    SO_REUSEADDR, so that a restart need not wait for old connections; not SO_REUSEPORT, with which a second daemon
    would silently take half of the connections. Where there is no IPv6, "::" beside another address is left out.
    """
    sockets: list[trio.socket.SocketType] = []
    try:
        for address in addresses:
            try:
                sockets.append(await _listen(address))
            except OSError as error:
                if error.errno in _NO_FAMILY and "/::/" in address and len(addresses) > 1:
                    _log.info("this machine has no IPv6; not listening on %s", address)
                    continue
                raise _cannot_listen(address, error) from error
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def _listen(address: str) -> trio.socket.SocketType:
    ip, port = listen_target(address)
    sock = trio.socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ip.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind((str(ip), port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _cannot_listen(address: str, error: OSError) -> LocalError:
    if error.errno == errno.EADDRINUSE:
        return Exists(
            f"cannot listen on {address}: another program uses this port",
            hint="Stop the other program, or set network.listen to another port.",
        )
    if error.errno == errno.EACCES:
        return PermissionDenied(
            f"cannot listen on {address}: permission denied",
            hint="Ports below 1024 need privileges; choose a higher one.",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return LocalError(
            f"cannot listen on {address}: this machine has no such address",
            hint="Set network.listen to an address of this machine, or to /ip4/0.0.0.0/tcp/PORT for all.",
        )
    return LocalError(f"cannot listen on {address}: {(error.strerror or str(error)).lower()}")


async def accept_forever(
    listener: trio.socket.SocketType, take: Callable[[trio.socket.SocketType, tuple[str, int]], None]
) -> None:
    """Hands every accepted socket with its peer's (host, port) to `take`. Running out of descriptors pauses it."""
    complained = -math.inf
    while True:
        try:
            sock, peer = await listener.accept()
        except trio.ClosedResourceError:
            return
        except OSError as error:
            if error.errno == errno.EBADF:
                return  # closed between two accepts
            if error.errno not in _GONE:
                if trio.current_time() - complained >= _COMPLAIN_EVERY:
                    complained = trio.current_time()
                    _log.warning("a connection could not be accepted (%s); pausing", error.strerror)
                await trio.sleep(_PAUSE)
            continue
        take(sock, (peer[0], peer[1]))
        for another, its_peer in _waiting(listener):
            take(another, its_peer)


def _waiting(listener: trio.socket.SocketType) -> Iterator[tuple[trio.socket.SocketType, tuple[str, int]]]:
    """What else waits, up to a batch: in a flood the kernel's queue must not be what an honest peer waits in."""
    try:
        queue = socket.socket(fileno=os.dup(listener.fileno()))
    except OSError:  # it was closed, or there are no descriptors
        return
    with queue:
        queue.setblocking(False)
        for _ in range(_AT_ONCE):
            try:
                sock, peer = queue.accept()
            except OSError:  # nothing waits; of anything else the next accept tells
                return
            yield trio.socket.from_stdlib_socket(sock), (peer[0], peer[1])


def refuse(sock: trio.socket.SocketType) -> None:
    """Closes a connection to which nothing is to be said, with a RST: the kernel keeps nothing of it."""
    if sock.fileno() >= 0:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING_LEFT)
        sock.close()


async def dial(host: str, port: int, family: int = 0) -> trio.SocketStream:
    """A TCP connection to an IP address or a name. Raises OSError. The caller bounds the time."""
    found = await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for af, kind, proto, _, target in found[:4]:
        sock = trio.socket.socket(af, kind, proto)
        try:
            descriptors.check(sock.fileno())
            await sock.connect(target)
            return stream_over(sock)
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise failure or OSError(errno.EADDRNOTAVAIL, "the name has no address")


async def dial_persistently(host: str, port: int, family: int = 0) -> trio.SocketStream:
    """The same where packets may be lost: another attempt is begun every half second beside those that wait.

    A single one would repeat its SYN after 1, 3, 7 and 15 s (RFC 6298), and find a link that came back only then.
    Raises OSError when the port is closed; other failures are tried again. The caller bounds the time.
    """
    won: list[trio.SocketStream] = []
    refused: list[OSError] = []

    async def one(nursery: trio.Nursery) -> None:
        try:
            won.append(await dial(host, port, family))
        except ConnectionRefusedError as error:
            refused.append(error)
        except OSError:
            return
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            while not nursery.cancel_scope.cancel_called:
                nursery.start_soon(one, nursery)
                await trio.sleep(_SYN_AGAIN)
    except BaseException:
        for stream in won:
            stream.socket.close()
        raise
    for late in won[1:]:
        late.socket.close()
    if won:
        return won[0]
    raise refused[0]


def bound_to(sock: trio.socket.SocketType) -> tuple[IP, int]:
    """(IP, port) that a listening socket is bound to."""
    host, port = sock.getsockname()[:2]
    return listen_target(f"/ip{6 if ':' in host else 4}/{host}/tcp/{port}")
