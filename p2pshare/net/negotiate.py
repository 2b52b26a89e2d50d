"""Drives the multistream-select dialogue over a stream. The dialogue itself is p2pshare_protocols.multistream.

It reads only what the dialogue surely still needs, so that the bytes behind the agreement stay in the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from p2pshare.net.layers import Channel
from p2pshare_protocols.multistream import Initiator, Responder


async def propose(stream: Channel, protocols: Sequence[str]) -> str | None:
    """The protocol agreed on; None when all were refused.

    Raises RemoteProtocolError on nonsense, trio.BrokenResourceError when the stream ends. The caller bounds the time.
    """
    dialogue = Initiator(protocols)
    await stream.send_all(dialogue.start())
    while not dialogue.done:
        if out := dialogue.receive(await _some(stream, dialogue.wanted)):
            await stream.send_all(out)
    return dialogue.chosen


async def answer(stream: Channel, accepts: Callable[[str], bool]) -> str:
    """The first protocol that the other side proposes and `accepts` takes. Raises like propose()."""
    dialogue = Responder(accepts)
    while dialogue.chosen is None:
        if out := dialogue.receive(await _some(stream, dialogue.wanted)):
            await stream.send_all(out)
    return dialogue.chosen


async def _some(stream: Channel, wanted: int) -> bytes | bytearray:
    data = await stream.receive_some(wanted)
    if not data:
        raise trio.BrokenResourceError("the stream ended during negotiation")
    return data
