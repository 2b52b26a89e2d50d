"""A peer that says whatever it is told to: to the bare port, in muxer frames, or on a stream of one protocol.

It blocks, so that the fuzzer knows when the node has reacted. It is never instrumented: what is covered is the node.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare_protocols import multistream, noise, peerid, varint
from p2pshare_protocols.noise_cipher import NOISE, Cipher, open_records, seal_into, sealed_size
from p2pshare_protocols.yamux_frames import (
    ACK,
    DATA,
    FIN,
    HEADER,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    frame,
    unpack_from,
)

GREETING = multistream.encode(multistream.VERSION)
PATIENCE = 5.0  # seconds for what an honest peer is surely given
QUIET = 0.05  # seconds after which a broken input is taken for one that is not answered
YAMUX = "/yamux/1.0.0"
PING_PROTOCOL = "/ipfs/ping/1.0.0"

Frame = tuple[int, int, int, int, bytes]  # kind, flags, stream, length field, payload


class Lost(Exception):
    """The node closed the connection, or did not answer in time."""


def say_bare(port: int, data: bytes) -> None:
    """Sends bytes to the port and waits until the node has closed the connection. Raises Lost when it does not."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except TimeoutError:
            raise Lost("a connection that has ended is not closed") from None
        except OSError:
            return  # reset: an answer too


class Session:
    """A secured, muxed connection. Raises Lost from every method when it has ended."""

    def __init__(self, port: int, number: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sealed, self._plain = bytearray(), bytearray()
        self._next, self._pings = 1, 0
        self.used = 0
        self._sock.sendall(GREETING + multistream.encode(NOISE))
        self._exactly(len(GREETING + multistream.encode(NOISE)))
        self._send_cipher, self._receive_cipher = self._shake(number)

    def _shake(self, number: int) -> tuple[Cipher, Cipher]:
        key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
        identity = peerid.encode_public_key(peerid.ED25519, key.public_key().public_bytes_raw())
        local = noise.Local(identity, key.sign, os.urandom(32), os.urandom(32), (YAMUX,))
        handshake = noise.Handshake(NOISE, initiator=True, local=local)
        while True:
            if out := handshake.data_to_send():
                self._sock.sendall(out)
            if handshake.secured is not None:
                self._sealed += handshake.secured.rest
                return handshake.secured.send, handshake.secured.receive
            handshake.receive(self._some())

    def close(self) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        out = bytearray(sealed_size(len(data)))
        count = seal_into(self._send_cipher, [memoryview(data)], memoryview(out))
        try:
            self._sock.sendall(memoryview(out)[:count])
        except OSError as error:
            raise Lost("the connection was closed") from error

    def barrier(self, patience: float) -> None:
        """Returns when the node has read all that was sent."""
        self._pings += 1
        self.send(frame(PING, SYN, 0, self._pings))
        for kind, flags, _, value, _ in self._frames(patience):
            if kind == PING and flags & ACK and value == self._pings:
                return

    def open(self, protocol: str, said: bytes, *, finish: bool) -> int:
        """A stream on which `said` follows its proposal; its number."""
        stream, self._next = self._next, self._next + 2
        data = GREETING + multistream.encode(protocol) + said
        self.send(frame(DATA, SYN | (FIN if finish else 0), stream, len(data)) + data)
        return stream

    def answer(self, stream: int, patience: float, *, least: int = 1 << 30) -> bytes:
        """What comes on a stream until its end, until there are `least` bytes, or for so long."""
        heard = bytearray()
        try:
            for kind, flags, number, _, payload in self._frames(patience):
                if number == stream:
                    heard += payload if kind == DATA else b""
                    if flags & (FIN | RST) or len(heard) >= least:
                        return bytes(heard)
        except TimeoutError:
            self.send(frame(WINDOW_UPDATE, RST, stream, 0))
        return bytes(heard)

    def ping(self) -> None:
        """An honest ping, answered in time. Raises Lost."""
        said, agreed = os.urandom(32), GREETING + multistream.encode(PING_PROTOCOL)
        stream = self.open(PING_PROTOCOL, said, finish=True)
        if self.answer(stream, PATIENCE, least=len(agreed) + 32) != agreed + said:
            raise Lost("an honest ping was not answered")

    def _frames(self, patience: float) -> Iterator[Frame]:
        """Frames as they come; raises TimeoutError. The node's own streams are refused, its pings are answered."""
        until = time.monotonic() + patience
        while True:
            while len(self._plain) >= HEADER:
                _, kind, flags, stream, length = unpack_from(memoryview(bytes(self._plain[:HEADER])), 0)
                end = HEADER + (length if kind == DATA else 0)
                if len(self._plain) < end:
                    break
                payload = bytes(self._plain[HEADER:end])
                del self._plain[:end]
                if kind == PING and flags & SYN:
                    self.send(frame(PING, ACK, 0, length))
                elif flags & SYN:
                    self.send(frame(WINDOW_UPDATE, RST, stream, 0))
                yield kind, flags, stream, length, payload
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._sealed += self._some(left)
            views, used = open_records(self._receive_cipher, memoryview(self._sealed))
            for view in views:
                self._plain += view
            views = []
            self._sealed = bytearray(self._sealed[used:])

    def _some(self, patience: float = PATIENCE) -> bytes:
        self._sock.settimeout(patience)
        try:
            data = self._sock.recv(1 << 16)
        except TimeoutError:
            raise
        except OSError as error:
            raise Lost("the connection was reset") from error
        if not data:
            raise Lost("the connection was closed")
        return data

    def _exactly(self, count: int) -> None:
        while count:
            self._sock.settimeout(PATIENCE)
            count -= len(data := self._sock.recv(count))
            if not data:
                raise Lost("the connection was closed in negotiation")


class Secured:
    """Inputs inside a secured connection. The first byte chooses: muxer frames, or a stream of one of `protocols`; for
    a stream the second byte says what stands before the rest of the input, and whether the stream is finished.
    """

    FRESH_AFTER = 200  # inputs

    def __init__(self, port: int, protocols: Sequence[str]) -> None:
        self._port = port
        self._protocols = protocols
        self._session: Session | None = None
        self._made = 0

    def say(self, data: bytes) -> None:
        session = self._session
        if session is None or session.used >= self.FRESH_AFTER:
            if session is not None:
                session.close()
            self._made += 1
            session = self._session = Session(self._port, 1000 + self._made)
        session.used += 1
        try:
            self._say(session, data)
            session.barrier(QUIET)
        except (Lost, TimeoutError):  # it was told off, or left inside a frame: what follows would not be understood
            session.close()
            self._session = None

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _say(self, session: Session, data: bytes) -> None:
        choice = data[0] % (len(self._protocols) + 1) if data else 0
        if not choice:
            session.send(data[1:])
            return
        how, said = (data[1] if len(data) > 1 else 0), data[2:]
        before = (b"", len(said).to_bytes(4, "big"), varint.encode(len(said)), b"")[how % 4]
        stream = session.open(self._protocols[choice - 1], before + said, finish=not how & 4)
        session.answer(stream, QUIET)

    def seed(self, protocol: str, framing: int, said: bytes) -> bytes:
        """The input that says this. framing: 0 nothing, 1 four bytes of length, 2 a varint of the length before it."""
        return bytes([self._protocols.index(protocol) + 1, framing]) + said
