"""From a TCP connection to a muxer: multistream, session, multistream, muxer. Only what it is given is ever offered.

Each answer that is waited for costs a round trip. A peer that is known to be one of ours gets the proposal of the
session that it spoke before and the first handshake message in one packet; towards others, proposals that only our own
nodes accept do not delay the next one (see protocols/multistream.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from p2pshare.errors import RemoteError
from p2pshare.net import negotiate, tcp
from p2pshare.net.layers import Channel, Muxer, MuxerMaker, Secure, SessionMaker
from p2pshare_protocols.errors import ProtocolError
from p2pshare_protocols.multistream import Initiator

MAX_KNOWN = 4096  # peers


@dataclass(frozen=True, slots=True)
class Upgraded:
    """ours: the peer agreed to what only our own nodes speak, or was known before. congestion: how TCP paces it."""

    muxer: Muxer
    secure: Secure
    security: str
    muxer_name: str
    ours: bool = False
    congestion: str = ""


class OwnKind:
    """Which session each peer spoke that is known to be one of our own nodes. The least lately heard of go first."""

    def __init__(self) -> None:
        self._sessions: dict[str, str] = {}

    def learn(self, peer_id: str, session: str) -> None:
        self._sessions.pop(peer_id, None)
        self._sessions[peer_id] = session
        if len(self._sessions) > MAX_KNOWN:
            del self._sessions[next(iter(self._sessions))]

    def forget(self, peer_id: str) -> None:
        self._sessions.pop(peer_id, None)

    def session_of(self, peer_id: str) -> str | None:
        return self._sessions.get(peer_id)


class Upgrader:
    """Secures and muxes connections with the sessions and muxers given, in their order of preference."""

    def __init__(self, sessions: Sequence[SessionMaker], muxers: Sequence[MuxerMaker]) -> None:
        self.known = OwnKind()
        self._sessions = {session.name: session for session in sessions}
        self._muxers = {muxer.name: muxer for muxer in muxers}

    async def inbound(self, stream: trio.SocketStream) -> Upgraded:
        """Raises RemoteError. On any exception `stream` is closed."""
        return await self._whole(stream, None, initiator=False)

    async def outbound(self, stream: trio.SocketStream, expected: str) -> Upgraded:
        """The same for a connection that was dialled to the peer `expected`.

        A failure after going ahead makes the peer unknown again, so the next call goes step by step.
        """
        return await self._whole(stream, expected, initiator=True)

    def goes_ahead(self, peer_id: str) -> bool:
        """Would `outbound` rely on what is known about the peer?"""
        session = self._sessions.get(self.known.session_of(peer_id) or "")
        return session is not None and session.goes_ahead

    async def _whole(self, stream: trio.SocketStream, expected: str | None, *, initiator: bool) -> Upgraded:
        ahead = expected is not None and self.goes_ahead(expected)
        try:
            if ahead:
                assert expected is not None
                return await self._ahead(stream, expected)
            return await self._layers(stream, initiator, expected)
        except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if ahead and expected is not None:
                self.known.forget(expected)
            await trio.aclose_forcefully(stream)
            raise RemoteError(f"the peer failed the handshake: {error}", kind="failed") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _ahead(self, stream: trio.SocketStream, expected: str) -> Upgraded:
        security = self.known.session_of(expected)
        assert security is not None
        secure = await self._sessions[security].secure_ahead(
            stream, Initiator([security]), expected=expected, muxers=list(self._muxers)
        )
        return await self._mux(stream, secure, security, initiator=True)

    async def _layers(self, stream: trio.SocketStream, initiator: bool, expected: str | None) -> Upgraded:
        names = list(self._sessions)
        if initiator:
            # Only our own nodes accept the first, and they skip what comes behind it.
            security = await _agreed(stream, names, together=2 if self._sessions[names[0]].only_ours else 1)
        else:
            security = await negotiate.answer(stream, names.__contains__)
            if self._sessions[security].only_ours:
                await negotiate.skip_proposal(stream)
        secure = await self._sessions[security].secure(
            stream, initiator=initiator, expected=expected, muxers=list(self._muxers)
        )
        assert expected in (None, secure.peer_id), "a session is made with the peer that was expected"
        return await self._mux(stream, secure, security, initiator=initiator)

    async def _mux(self, stream: trio.SocketStream, secure: Secure, security: str, *, initiator: bool) -> Upgraded:
        if self._sessions[security].only_ours:
            self.known.learn(secure.peer_id, security)
        names = list(self._muxers)
        if (name := secure.muxer) is None and initiator:
            name = await _agreed(secure, names)
        elif name is None:
            name = await negotiate.answer(secure, names.__contains__)
        muxer = self._muxers[name].make(secure, initiator=initiator)
        ours = self.known.session_of(secure.peer_id) is not None
        return Upgraded(muxer, secure, security, name, ours, tcp.congestion_of(stream.socket))


async def _agreed(stream: Channel, names: Sequence[str], *, together: int = 1) -> str:
    chosen = await negotiate.propose(stream, names, together=together)
    if chosen is None:
        raise RemoteError(f"the peer speaks none of {', '.join(names)}", kind="failed")
    return chosen
