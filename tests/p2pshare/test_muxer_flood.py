"""What a hostile peer may cost: streams opened and reset without end, and streams hoarded."""

from __future__ import annotations

import trio

from p2pshare.net.muxer import Muxer, MuxerLimits, MuxStream
from p2pshare_protocols.yamux_frames import RST, SYN, WINDOW_UPDATE, frame
from tests.support_session import secured, socket_pair


async def test_streams_reset_in_the_breath_that_opens_them_reach_nobody() -> None:
    alice, bob = await secured(*await socket_pair())
    seen: list[MuxStream] = []
    right = Muxer(bob, initiator=False, limits=MuxerLimits(max_inbound=4), on_stream=seen.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.run)
        both = [frame(WINDOW_UPDATE, SYN, id, 0) + frame(WINDOW_UPDATE, RST, id, 0) for id in range(1, 2001, 2)]
        await alice.send(both)
        await alice.send([frame(WINDOW_UPDATE, SYN, 2001, 0)])
        with trio.fail_after(5):
            while not seen:
                await alice.receive_some()
        assert [stream.id for stream in seen] == [2001]
        assert right.stream_count == 1
        nursery.cancel_scope.cancel()
    await alice.abort()
