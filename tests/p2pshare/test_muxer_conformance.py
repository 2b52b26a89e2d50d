"""A stream of the muxer is a trio stream: trio's own conformance checks, over memory and over a socket."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pshare.net.muxer import MuxStream
from p2pshare_protocols.yamux_streams import INITIAL_WINDOW
from tests.support_session import muxers, stream_pair


@pytest.mark.parametrize("memory", [True, False])
async def test_half_closeable_stream(memory: bool) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def make() -> tuple[MuxStream, MuxStream]:
                return await stream_pair(*await muxers(nursery, memory=memory))

            async def make_clogged() -> tuple[MuxStream, MuxStream]:
                left, right = await make()
                await left.send_all(bytes(INITIAL_WINDOW))
                await right.send_all(bytes(INITIAL_WINDOW))
                return left, right

            await trio.testing.check_half_closeable_stream(make, make_clogged)
            await trio.testing.check_two_way_stream(make, None)
            nursery.cancel_scope.cancel()
