"""Our session and our muxer as layers of a connection."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence

import trio

from p2pshare.errors import RemoteError
from p2pshare.net import muxer, session, session_tls
from p2pshare.net.layers import MuxedStream, Muxer, MuxerMaker, Secure, SessionMaker
from p2pshare.net.muxer_limits import MIB, MuxerLimits, ReceiveBudget
from p2pshare.net.parts import Identity
from p2pshare.net.session_base import SecureSession
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.multistream import Initiator
from p2pshare_protocols.noise_cipher import NOISE_AESGCM
from p2pshare_protocols.tls_identity import TLS

FIRST_WINDOW = 8 * MIB  # between our own nodes: twice what 20 MB/s take at a round trip of 200 ms
RECEIVE_BUDGET = 256 * MIB  # bytes received and not read, of all connections together


class _Secured:
    """A session as the switch sees it."""

    def __init__(self, inner: SecureSession, *, only_ours: bool = False) -> None:
        self.inner = inner
        self.only_ours = only_ours
        self.peer_id = inner.remote_peer
        self.muxer = inner.muxer

    async def receive_some(self, max_bytes: int, /) -> bytes:
        return await self.inner.receive_some(max_bytes)

    async def send_all(self, data: bytes, /) -> None:
        await self.inner.send([data])

    def traffic(self) -> tuple[int, int]:
        return self.inner.bytes_in, self.inner.bytes_out

    async def abort(self) -> None:
        await self.inner.abort()


class NoiseMaker(SessionMaker):
    """One suite of our Noise session."""

    goes_ahead = True

    def __init__(self, static: session.StaticKey, name: str) -> None:
        self.name = name
        self.only_ours = name == NOISE_AESGCM
        self._static = static

    async def secure(
        self, stream: trio.SocketStream, *, initiator: bool, expected: str | None, muxers: Sequence[str]
    ) -> Secure:
        if initiator:
            inner = await session.secure_outbound(
                stream, self.name, self._static, expected_peer=expected, muxers=muxers
            )
        else:
            inner = await session.secure_inbound(stream, self.name, self._static, muxers=muxers)
        return _Secured(inner, only_ours=self.only_ours)

    async def secure_ahead(
        self, stream: trio.SocketStream, proposal: Initiator, *, expected: str, muxers: Sequence[str]
    ) -> Secure:
        inner = await session.secure_outbound(
            stream, self.name, self._static, expected_peer=expected, muxers=muxers, proposal=proposal
        )
        return _Secured(inner, only_ours=self.only_ours)


class TlsMaker(SessionMaker):
    """TLS 1.3 with a certificate made here, so one per network."""

    name = TLS

    def __init__(self, identity: Identity) -> None:
        self._context = session_tls.TlsContext(identity)

    async def secure(
        self, stream: trio.SocketStream, *, initiator: bool, expected: str | None, muxers: Sequence[str]
    ) -> Secure:
        if initiator:
            return _Secured(
                await session_tls.secure_outbound(stream, self._context, expected_peer=expected, muxers=muxers)
            )
        return _Secured(await session_tls.secure_inbound(stream, self._context, muxers=muxers))


class _Muxer(Muxer):
    def __init__(self, inner: muxer.Muxer, agreement: Callable[[], Awaitable[None]] | None = None) -> None:
        self._inner = inner
        self._agreed = trio.Event()
        self._failure = ""
        if agreement is None:
            self._agreed.set()
        else:
            inner.before_reading = functools.partial(self._agree, agreement)

    async def _agree(self, agreement: Callable[[], Awaitable[None]]) -> None:
        try:
            await agreement()
        except (RemoteProtocolError, trio.BrokenResourceError) as error:
            self._failure = f"the peer failed the handshake: {error}"
            raise
        finally:
            self._agreed.set()

    async def agreed(self) -> None:
        await self._agreed.wait()
        if self._failure:
            raise RemoteError(self._failure, kind="failed")

    async def run(self) -> None:
        await self._inner.run()

    async def open(self) -> MuxedStream:
        return await self._inner.open_stream()

    async def accept(self) -> MuxedStream:
        return await self._inner.accept_stream()

    @property
    def rtt(self) -> float | None:
        return self._inner.rtt

    async def aclose(self) -> None:
        await self._inner.aclose()


class YamuxMaker(MuxerMaker):
    """Our yamux; all its connections share `budget`."""

    def __init__(self, name: str, budget: ReceiveBudget) -> None:
        self.name = name
        self._budget = budget

    def make(self, secure: Secure, *, initiator: bool) -> Muxer:
        return _Muxer(self._inner(secure, initiator=initiator))

    def make_ahead(self, secure: Secure, agreement: Callable[[], Awaitable[None]]) -> Muxer:
        return _Muxer(self._inner(secure, initiator=True), agreement)

    def _inner(self, secure: Secure, *, initiator: bool) -> muxer.Muxer:
        assert isinstance(secure, _Secured)
        limits = MuxerLimits(first_window=FIRST_WINDOW) if secure.only_ours else None
        return muxer.Muxer(secure.inner, initiator=initiator, limits=limits, process_budget=self._budget)


def own_sessions(identity: Identity) -> list[SessionMaker]:
    """Our suites, the one that is fastest on this CPU first; TLS last, for peers that speak no Noise."""
    static = session.StaticKey(identity)
    noise = [NoiseMaker(static, name) for name in session.suites(session.has_aes_instructions())]
    return [*noise, TlsMaker(identity)]


def own_muxers() -> list[MuxerMaker]:
    budget = ReceiveBudget(RECEIVE_BUDGET)
    return [YamuxMaker(name, budget) for name in muxer.PROTOCOLS]
