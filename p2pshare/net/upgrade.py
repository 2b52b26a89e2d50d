"""From a TCP connection to a muxer: multistream, session, multistream, muxer. Only what it is given is ever offered.

Each answer that is waited for costs a round trip. A peer whose session is known gets that proposal and the first
handshake message in one packet; towards others, proposals that only our own nodes accept do not delay the next one. The
only muxer is spoken before the peer agrees to it: should it refuse, there is nothing else to say anyway, and the next
dial waits for its word (see protocols/multistream.md).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from p2pshare.errors import RemoteError
from p2pshare.net import negotiate, tcp
from p2pshare.net.kinds import KnownPeers
from p2pshare.net.layers import Channel, Muxer, MuxerMaker, Secure, SessionMaker
from p2pshare_protocols.errors import ProtocolError, RemoteProtocolError
from p2pshare_protocols.multistream import Initiator

MAX_CAREFUL = 256  # peers


@dataclass(frozen=True, slots=True)
class Upgraded:
    """ours: the peer agreed to what only our own nodes speak, or was known before. congestion: how TCP paces it."""

    muxer: Muxer
    secure: Secure
    security: str
    muxer_name: str
    ours: bool = False
    congestion: str = ""


class Upgrader:
    """Secures and muxes connections with the sessions and muxers given, in their order of preference."""

    def __init__(
        self, sessions: Sequence[SessionMaker], muxers: Sequence[MuxerMaker], known: KnownPeers | None = None
    ) -> None:
        self.known = KnownPeers(time.time) if known is None else known
        self._sessions = {session.name: session for session in sessions}
        self._muxers = {muxer.name: muxer for muxer in muxers}
        self._careful: dict[str, None] = {}  # who did not take the muxer that was taken for granted

    async def inbound(self, stream: trio.SocketStream) -> Upgraded:
        """Raises RemoteError. On any exception `stream` is closed."""
        return await self._whole(stream, None)

    async def outbound(self, stream: trio.SocketStream, expected: str) -> Upgraded:
        """The same for a connection that was dialled to the peer `expected`.

        A failure after going ahead makes the peer unknown again, so the next call goes step by step.
        """
        return await self._whole(stream, expected)

    def goes_ahead(self, peer_id: str) -> bool:
        """Would `outbound` rely on what is known about the peer?"""
        session = self._known_session(peer_id)
        return session is not None and session.goes_ahead

    def identified(self, peer_id: str, security: str, *, ours: bool) -> None:
        """Identify showed whether a peer, which is connected with the session `security`, is one of our own nodes."""
        ours = ours or self._sessions[security].only_ours
        if ours or self.known.of(peer_id) is not None:
            self.known.learn(peer_id, security, ours=ours)

    def _known_session(self, peer_id: str) -> SessionMaker | None:
        kind = self.known.of(peer_id)
        return None if kind is None else self._sessions.get(kind.session)

    async def _whole(self, stream: trio.SocketStream, expected: str | None) -> Upgraded:
        ahead = expected is not None and self.goes_ahead(expected)
        try:
            if expected is None:
                return await self._answered(stream)
            secure, security = await (self._ahead if ahead else self._stepwise)(stream, expected)
            assert secure.peer_id == expected, "a session is made with the peer that was expected"
            return self._done(stream, secure, security, await self._muxed(secure))
        except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if ahead and expected is not None:
                self.known.forget(expected)
            await trio.aclose_forcefully(stream)
            raise RemoteError(f"the peer failed the handshake: {error}", kind="failed") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _answered(self, stream: trio.SocketStream) -> Upgraded:
        security = await negotiate.answer(stream, self._sessions.__contains__)
        if self._sessions[security].only_ours:
            await negotiate.skip_proposal(stream)
        secure = await self._sessions[security].secure(
            stream, initiator=False, expected=None, muxers=list(self._muxers)
        )
        if (name := secure.muxer) is None:
            name = await negotiate.answer(secure, self._muxers.__contains__)
        return self._done(stream, secure, security, (self._muxers[name].make(secure, initiator=False), name))

    async def _ahead(self, stream: trio.SocketStream, expected: str) -> tuple[Secure, str]:
        session = self._known_session(expected)
        assert session is not None
        secure = await session.secure_ahead(
            stream, Initiator([session.name]), expected=expected, muxers=list(self._muxers)
        )
        self.known.learn(expected, session.name, ours=self._ours(expected, session))
        return secure, session.name

    async def _stepwise(self, stream: trio.SocketStream, expected: str) -> tuple[Secure, str]:
        names = list(self._sessions)
        if (known := self._known_session(expected)) is not None:  # one that cannot go ahead
            names.sort(key=lambda name: name != known.name)
        # Only our own nodes accept the first, and they skip what comes behind it.
        security = await _agreed(stream, names, together=2 if self._sessions[names[0]].only_ours else 1)
        session = self._sessions[security]
        secure = await session.secure(stream, initiator=True, expected=expected, muxers=list(self._muxers))
        self.known.learn(expected, security, ours=self._ours(expected, session))
        return secure, security

    async def _muxed(self, secure: Secure) -> tuple[Muxer, str]:
        names = list(self._muxers)
        if secure.muxer is not None:
            return self._muxers[secure.muxer].make(secure, initiator=True), secure.muxer
        if len(names) > 1 or secure.peer_id in self._careful:
            name = await _agreed(secure, names)
            self._careful.pop(secure.peer_id, None)
            return self._muxers[name].make(secure, initiator=True), name
        [name] = names
        dialogue = Initiator([name])
        await secure.send_all(dialogue.start())
        return self._muxers[name].make_ahead(secure, lambda: self._agreement(secure, dialogue)), name

    async def _agreement(self, secure: Secure, dialogue: Initiator) -> None:
        """Takes the answer to the proposal of the muxer that is spoken already. Raises RemoteProtocolError,
        trio.BrokenResourceError; the next dial to the peer then waits for the answer."""
        try:
            await negotiate.conclude(secure, dialogue)
            if dialogue.chosen is None:
                raise RemoteProtocolError(f"it speaks none of {', '.join(self._muxers)}")
        except (RemoteProtocolError, trio.BrokenResourceError):
            self._careful[secure.peer_id] = None
            if len(self._careful) > MAX_CAREFUL:
                del self._careful[next(iter(self._careful))]
            raise

    def _done(self, stream: trio.SocketStream, secure: Secure, security: str, made: tuple[Muxer, str]) -> Upgraded:
        muxer, name = made
        ours = self._ours(secure.peer_id, self._sessions[security])
        if ours:
            self.known.learn(secure.peer_id, security, ours=True)
        return Upgraded(muxer, secure, security, name, ours, tcp.congestion_of(stream.socket))

    def _ours(self, peer_id: str, session: SessionMaker) -> bool:
        kind = self.known.of(peer_id)
        return session.only_ours or (kind is not None and kind.ours)


async def _agreed(stream: Channel, names: Sequence[str], *, together: int = 1) -> str:
    chosen = await negotiate.propose(stream, names, together=together)
    if chosen is None:
        raise RemoteError(f"the peer speaks none of {', '.join(names)}", kind="failed")
    return chosen
