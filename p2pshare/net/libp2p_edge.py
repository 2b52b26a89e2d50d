"""What we rely on in libp2p 0.8.1. Nothing else in p2pshare imports it. tests/p2pshare/test_net_edge.py has a test
for each line, which fails when a new libp2p changes it:

- the protobuf of identify: `Identify`, its field names and numbers; protobuf's `DecodeError`
- the Noise transport: `secure_inbound`, `secure_outbound`, over anything with read, write and close
- the yamux muxer: `start`, `open_stream`, `accept_stream`, `close`, and the exceptions its streams raise
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.crypto.ed25519 import Ed25519PrivateKey, create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.peer.id import ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import Yamux

from p2pshare.errors import RemoteError
from p2pshare.net.layers import MuxedStream, Muxer, MuxerMaker, SecureStream, Session

__all__ = ["DecodeError", "Identify", "StockNoise", "StockYamux"]

_BROKEN = (IOException, RawConnError, MuxedStreamError, MuxedConnUnavailable, OSError)


class _Raw:
    """A trio stream as libp2p's layers want it: read, write, close."""

    is_initiator = False

    def __init__(self, stream: trio.abc.Stream, initiator: bool) -> None:
        self._stream = stream
        self.is_initiator = initiator
        self.bytes_in = self.bytes_out = 0

    async def read(self, n: int | None = None) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(n))
            self.bytes_in += len(data)
            return data
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise IOException(str(error)) from error

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
            self.bytes_out += len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise IOException(str(error)) from error

    async def close(self) -> None:
        await self._stream.aclose()

    def get_remote_address(self) -> None:
        return None


class _StockSecure(SecureStream):
    def __init__(self, session: Any, raw: _Raw, under: trio.abc.Stream) -> None:
        self.peer_id = str(session.get_remote_peer())
        self._session = session
        self._raw = raw
        self._under = under

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        try:
            return bytes(await self._session.read(65536 if max_bytes is None else max_bytes))
        except Exception as error:
            raise trio.BrokenResourceError("the session ended") from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        try:
            await self._session.write(bytes(data))
        except _BROKEN as error:
            raise trio.BrokenResourceError("the session ended") from error

    def traffic(self) -> tuple[int, int]:
        return self._raw.bytes_in, self._raw.bytes_out

    async def wait_send_all_might_not_block(self) -> None:
        await self._under.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._under.aclose()


class StockNoise(Session):
    """libp2p's own Noise."""

    name = "/noise"

    def __init__(self, private_bytes: bytes) -> None:
        private = Ed25519PrivateKey.from_bytes(private_bytes)
        pair = create_new_key_pair(private.to_bytes()[:32])
        self._transport = NoiseTransport(pair, create_noise_key_pair().private_key)

    async def secure(
        self, stream: trio.SocketStream, *, initiator: bool, expected: str | None, muxers: Sequence[str]
    ) -> SecureStream:
        raw = _Raw(stream, initiator)
        try:
            if expected is not None:
                session = await self._transport.secure_outbound(raw, ID.from_string(expected))
            else:
                session = await self._transport.secure_inbound(raw)
        except Exception as error:
            raise RemoteError("the peer failed the Noise handshake", kind="failed") from error
        return _StockSecure(session, raw, stream)


class _StockStream(MuxedStream):
    def __init__(self, inner: Any, connection: Any) -> None:
        self._inner = inner
        self._connection = connection
        self._scope: trio.CancelScope | None = None
        self._closed = False
        self._finished = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError
        await trio.lowlevel.checkpoint()
        with trio.CancelScope() as self._scope:
            try:
                return bytes(await self._inner.read(65536 if max_bytes is None else max_bytes))
            except MuxedStreamEOF as error:
                if self._inner.recv_closed and not self._connection.event_shutting_down.is_set():
                    return b""
                raise trio.BrokenResourceError("the connection ended") from error
            except _BROKEN as error:
                raise trio.BrokenResourceError("the stream was reset") from error
        raise trio.ClosedResourceError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed or self._finished:
            raise trio.ClosedResourceError
        await trio.lowlevel.checkpoint()
        try:
            await self._inner.write(bytes(data))
        except _BROKEN as error:
            raise trio.BrokenResourceError("the stream was reset") from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        await trio.lowlevel.checkpoint()
        if not self._finished:
            self._finished = True
            await self._quietly(self._inner.close)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            if not self._finished:
                await self._quietly(self._inner.close)
            if self._scope is not None:
                self._scope.cancel()
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        self._closed = True
        with trio.move_on_after(1, shield=True):
            await self._quietly(self._inner.reset)
        if self._scope is not None:
            self._scope.cancel()

    async def _quietly(self, close: Any) -> None:
        try:
            await close()
        except _BROKEN:
            return


class _StockMuxer(Muxer):
    def __init__(self, stream: SecureStream, initiator: bool) -> None:
        self._stream = stream
        self._yamux = Yamux(_Raw(stream, initiator), ID.from_string(stream.peer_id), is_initiator=initiator)

    async def run(self) -> None:
        await self._yamux.start()

    async def open(self) -> MuxedStream:
        await self._yamux.event_started.wait()
        try:
            return _StockStream(await self._yamux.open_stream(), self._yamux)
        except _BROKEN as error:
            raise trio.BrokenResourceError("the connection ended") from error

    async def accept(self) -> MuxedStream:
        try:
            return _StockStream(await self._yamux.accept_stream(), self._yamux)
        except MuxedConnUnavailable as error:
            raise trio.EndOfChannel from error

    async def aclose(self) -> None:
        self._yamux.event_shutting_down.set()
        await self._stream.aclose()


class StockYamux(MuxerMaker):
    """libp2p's own yamux."""

    name = "/yamux/1.0.0"

    def make(self, stream: SecureStream, *, initiator: bool) -> Muxer:
        return _StockMuxer(stream, initiator)
