"""Drives the multistream-select dialogue over a stream. The dialogue itself is p2pshare_protocols.multistream.

It reads only what the dialogue surely still needs, so that the bytes behind the agreement stay in the stream.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import trio

from p2pshare.errors import RemoteError
from p2pshare.net.layers import Buffer, Channel, MuxedStream
from p2pshare_protocols.errors import ProtocolError, RemoteProtocolError
from p2pshare_protocols.multistream import Initiator, MessageReader, Responder


class AheadOfRefusal(RemoteProtocolError):
    """After a refusal came what is no proposal: an initiator that took the agreement for granted. It is still to
    read our "na", so the stream has to be closed and not reset."""


class NotAgreed(RemoteError, trio.BrokenResourceError):
    """A protocol that was taken for agreed was not: kind "failed" when it was refused, "unreachable" when the stream
    ended first. For who knows only streams it is a broken one."""


async def propose(stream: Channel, protocols: Sequence[str], *, together: int = 1) -> str | None:
    """The protocol agreed on; None when all were refused. `together`: see multistream.Initiator.

    Raises RemoteProtocolError on nonsense, trio.BrokenResourceError when the stream ends. The caller bounds the time.
    """
    dialogue = Initiator(protocols, together=together)
    await stream.send_all(dialogue.start())
    await conclude(stream, dialogue)
    return dialogue.chosen


async def conclude(stream: Channel, dialogue: Initiator) -> None:
    """Goes on with a dialogue whose start() was sent until it is done. Raises like propose(). May be cancelled and
    called again: nothing that was read is lost."""
    while not dialogue.done:
        if out := dialogue.receive(await _some(stream, dialogue.wanted)):
            await stream.send_all(out)


async def answer(stream: Channel, accepts: Callable[[str], bool]) -> str:
    """The first protocol that the other side proposes and `accepts` takes.

    Raises like propose(), AheadOfRefusal for nonsense behind a refusal.
    """
    dialogue = Responder(accepts)
    while dialogue.chosen is None:
        data = await _some(stream, dialogue.wanted)
        try:
            out = dialogue.receive(data)
        except RemoteProtocolError as error:
            raise AheadOfRefusal(str(error)) if dialogue.refused else error from error
        if out:
            await stream.send_all(out)
    return dialogue.chosen


async def skip_proposal(stream: trio.SocketStream) -> None:
    """Drops one proposal that came behind the one we accepted, if there is one. What follows begins with a zero byte.

    Raises RemoteProtocolError, trio.BrokenResourceError. Peeks, so that nothing of what follows is taken.
    """
    try:
        first = await stream.socket.recv(1, socket.MSG_PEEK)
    except OSError as error:
        raise trio.BrokenResourceError("the connection was lost during negotiation") from error
    if first and first[0]:
        reader = MessageReader()
        while reader.next() is None:
            reader.feed(await _some(stream, reader.wanted))


async def _some(stream: Channel, wanted: int) -> bytes | bytearray:
    data = await stream.receive_some(wanted)
    if not data:
        raise trio.BrokenResourceError("the stream ended during negotiation")
    return data


class Assumed:
    """A muxed stream on which one protocol was proposed, and is spoken before the peer has agreed.

    The first read takes the answer out, or raises NotAgreed, as does every call after it. Nothing is ever sent twice.
    """

    def __init__(self, muxed: MuxedStream, dialogue: Initiator, peer_id: str, protocol: str) -> None:
        self._muxed = muxed
        self._dialogue = dialogue
        self._peer_id = peer_id
        self._protocol = protocol
        self._failure: NotAgreed | None = None

    async def _agree(self) -> None:
        if self._failure is not None:
            raise self._again(self._failure)
        if self._dialogue.done:
            return
        try:
            await conclude(self._muxed, self._dialogue)
            if self._dialogue.chosen is None:
                self._failure = NotAgreed(f"{self._peer_id} does not speak {self._protocol}", kind="failed")
        except trio.BrokenResourceError:
            why = f"{self._peer_id} broke the stream off before it agreed on {self._protocol}"
            self._failure = NotAgreed(why, kind="unreachable")
        except ProtocolError as error:
            self._failure = NotAgreed(f"{self._peer_id} broke the protocol: {error}", kind="failed")
        if self._failure is not None:
            await self._muxed.reset()
            raise self._again(self._failure)

    @staticmethod
    def _again(error: NotAgreed) -> NotAgreed:
        return NotAgreed(error.message, kind=error.kind)

    async def _sending(self, call: Callable[[], Awaitable[None]]) -> None:
        if self._failure is not None:
            raise self._again(self._failure)
        try:
            await call()
        except trio.BrokenResourceError:
            with suppress(trio.BusyResourceError):  # a reader is there: it learns the reason
                await self._agree()  # never waits: a broken stream gives what it has, or fails
            raise

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes | bytearray:
        await self._agree()
        return await self._muxed.receive_some(max_bytes)

    async def receive_into(self, view: Buffer, /) -> int:
        await self._agree()
        return await self._muxed.receive_into(view)

    async def receive_exactly(self, count: int, /) -> bytes:
        await self._agree()
        return await self._muxed.receive_exactly(count)

    async def send_all(self, data: Buffer, /) -> None:
        await self._sending(lambda: self._muxed.send_all(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._sending(self._muxed.wait_send_all_might_not_block)

    async def send_eof(self) -> None:
        await self._sending(self._muxed.send_eof)

    async def aclose(self) -> None:
        await self._muxed.aclose()

    async def reset(self) -> None:
        await self._muxed.reset()
