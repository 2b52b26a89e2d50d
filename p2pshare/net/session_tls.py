"""The secure session of a connection by TLS 1.3: the handshake, then records, over any trio stream.

Only the peer's close_notify is an end; a connection that ends without it was cut. See protocols/tls.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from p2pshare.errors import TimedOut
from p2pshare.net.session_base import (
    HANDSHAKE_TIMEOUT,
    MAX_BATCH,
    MIN_BUFFER,
    SHRINK_AFTER,
    SecureSession,
)
from p2pshare.net.session_tls_engine import MAX_RECORD, STEP, Cut, TlsContext, TlsEngine
from p2pshare.net.session_wire import make_wire
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.tls_identity import TLS

_READ = 1 << 16
_ALERT_SECONDS = 1.0  # for the peer to take the reason why we leave, or our close_notify


async def secure_outbound(
    stream: trio.abc.Stream,
    context: TlsContext,
    *,
    expected_peer: str | None,
    muxers: Sequence[str] = (),
    received: bytes = b"",
    timeout: float = HANDSHAKE_TIMEOUT,
) -> TlsSession:
    """Run the handshake as the side that dialled, TLS's client.

    `received`: bytes already read from the stream after the negotiation. Raises RemoteProtocolError (a lie, or not
    `expected_peer`), trio.BrokenResourceError (the connection was lost, or the peer refused us) or TimedOut; the
    stream is then aborted. Only the next bytes of the other side tell that it took our certificate.
    """
    engine = context.engine(initiator=True, expected_peer=expected_peer, muxers=muxers)
    return await _secure(stream, engine, received, timeout)


async def secure_inbound(
    stream: trio.abc.Stream,
    context: TlsContext,
    *,
    muxers: Sequence[str] = (),
    received: bytes = b"",
    timeout: float = HANDSHAKE_TIMEOUT,
) -> TlsSession:
    """Run the handshake as the side that was dialled, TLS's server; as `secure_outbound` otherwise."""
    engine = context.engine(initiator=False, expected_peer=None, muxers=muxers)
    return await _secure(stream, engine, received, timeout)


async def _secure(stream: trio.abc.Stream, engine: TlsEngine, received: bytes, timeout: float) -> TlsSession:
    try:
        with trio.fail_after(timeout):
            await _shake(stream, engine, received)
    except trio.TooSlowError:
        await trio.aclose_forcefully(stream)
        raise TimedOut(f"the peer did not finish the handshake in {timeout:g} s") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return TlsSession(stream, engine)


async def _shake(stream: trio.abc.Stream, engine: TlsEngine, data: bytes) -> None:
    while True:
        try:
            done = engine.handshake(data)
        except RemoteProtocolError:
            with trio.move_on_after(_ALERT_SECONDS):
                await _send(stream, engine)
            raise
        except Cut as error:
            raise trio.BrokenResourceError(str(error)) from None
        await _send(stream, engine)
        if done:
            return
        data = bytes(await stream.receive_some(_READ))
        if not data:
            raise trio.BrokenResourceError("the connection ended during the handshake")


async def _send(stream: trio.abc.Stream, engine: TlsEngine) -> None:
    for out in engine.data_to_send():
        await stream.send_all(out)


class TlsSession(SecureSession):
    """A TLS session. `receive_views` tells the end by an empty list, after the peer's close_notify only."""

    def __init__(self, stream: trio.abc.Stream, engine: TlsEngine) -> None:
        super().__init__(
            make_wire(stream),
            suite=TLS,
            remote_peer=engine.peer_id,
            remote_public_key=engine.identity_key,
            muxer=engine.muxer,
        )
        self._engine = engine
        self._in = memoryview(bytearray(MIN_BUFFER))
        self._plain = memoryview(bytearray(MIN_BUFFER + MAX_RECORD))
        self._small_reads = 0
        self._ended = False

    def seal(self, buffers: Sequence[memoryview]) -> None:
        if self._broken:
            raise trio.BrokenResourceError("the session is broken")
        data = b"".join(buffers)  # so that records are full: a frame's header alone would be one
        if data:
            self._engine.seal(data)

    async def flush(self) -> None:
        if self._broken:
            raise trio.BrokenResourceError("the session is broken")
        out = self._engine.data_to_send()
        self._broken = True  # until it went well
        for part in out:
            await self._wire.send(memoryview(part))
        if not out:
            await trio.lowlevel.checkpoint()
        self._broken = False

    async def send_eof(self) -> None:
        """Say close_notify and close our sending half; the other side reads to the end."""
        if not self._broken:
            self._engine.close()
            await self.flush()
        await super().send_eof()

    async def aclose(self) -> None:
        """Say close_notify, waiting for nothing but the kernel and that for a second at most, and close."""
        try:
            if not self._broken:
                with trio.move_on_after(_ALERT_SECONDS):
                    self._engine.close()
                    await self.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await super().aclose()

    async def _open_records(self) -> list[memoryview]:
        while True:
            try:
                views = self._open_fed()
            except Cut as error:
                raise trio.BrokenResourceError(str(error)) from None
            if views or self._ended:
                if not views:
                    await trio.lowlevel.checkpoint()
                return views
            await self._fill()

    def _open_fed(self) -> list[memoryview]:
        """The plaintext of what was fed, as far as it has room for; the rest waits in the engine."""
        end = 0
        while not self._ended and len(self._plain) - end >= MAX_RECORD:
            count = self._engine.open_into(self._plain[end:])
            if count is None:
                break
            self._ended = not count
            end += count
        return [self._plain[:end]] if end else []

    async def _fill(self) -> None:
        """Feed the engine by one read. Raises BrokenResourceError at the end of the transport."""
        count = await self._wire.receive_into(self._in)
        if not count:
            raise trio.BrokenResourceError("the connection ended without a close_notify")
        self._engine.feed(self._in[:count])
        self._adapt(count)

    def _adapt(self, count: int) -> None:
        wanted = size = len(self._in)
        if count == size:
            wanted = min(size * 2, STEP)
            self._small_reads = 0
        elif count * 8 >= size:
            self._small_reads = 0
        else:
            self._small_reads += 1
            if self._small_reads >= SHRINK_AFTER:
                wanted, self._small_reads = MIN_BUFFER, 0
        if wanted != size:
            self._in = memoryview(bytearray(wanted))
            self._plain = memoryview(bytearray(wanted + MAX_RECORD))


__all__ = ["MAX_BATCH", "TlsContext", "TlsSession", "secure_inbound", "secure_outbound"]
