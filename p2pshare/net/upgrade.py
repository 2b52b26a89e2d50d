"""From a TCP connection to a muxer: multistream, session, multistream, muxer. Only what it is given is ever offered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from p2pshare.errors import RemoteError
from p2pshare.net import negotiate
from p2pshare.net.layers import Channel, Muxer, MuxerMaker, Secure, SessionMaker
from p2pshare_protocols.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Upgraded:
    muxer: Muxer
    secure: Secure
    security: str
    muxer_name: str


class Upgrader:
    """Secures and muxes connections with the sessions and muxers given, in their order of preference."""

    def __init__(self, sessions: Sequence[SessionMaker], muxers: Sequence[MuxerMaker]) -> None:
        self._sessions = {session.name: session for session in sessions}
        self._muxers = {muxer.name: muxer for muxer in muxers}

    async def inbound(self, stream: trio.SocketStream) -> Upgraded:
        """Raises RemoteError. On any exception `stream` is closed."""
        return await self._whole(stream, initiator=False, expected=None)

    async def outbound(self, stream: trio.SocketStream, expected: str) -> Upgraded:
        """The same for a connection that was dialled to the peer `expected`."""
        return await self._whole(stream, initiator=True, expected=expected)

    async def _whole(self, stream: trio.SocketStream, *, initiator: bool, expected: str | None) -> Upgraded:
        try:
            return await self._layers(stream, initiator, expected)
        except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            await trio.aclose_forcefully(stream)
            raise RemoteError(f"the peer failed the handshake: {error}", kind="failed") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _layers(self, stream: trio.SocketStream, initiator: bool, expected: str | None) -> Upgraded:
        security = await _agree(stream, list(self._sessions), initiator)
        secure = await self._sessions[security].secure(
            stream, initiator=initiator, expected=expected, muxers=list(self._muxers)
        )
        assert expected in (None, secure.peer_id), "a session is made with the peer that was expected"
        name = secure.muxer or await _agree(secure, list(self._muxers), initiator)
        return Upgraded(self._muxers[name].make(secure, initiator=initiator), secure, security, name)


async def _agree(stream: Channel, names: Sequence[str], initiator: bool) -> str:
    if not initiator:
        return await negotiate.answer(stream, names.__contains__)
    chosen = await negotiate.propose(stream, names)
    if chosen is None:
        raise RemoteError(f"the peer speaks none of {', '.join(names)}", kind="failed")
    return chosen
