"""Our network and js-libp2p, in both directions, over Noise and over TLS: everything that a stream can do."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from p2pshare.errors import RemoteError
from p2pshare.net import ping
from p2pshare.net.api import Network
from tests.interop.install import Installed
from tests.support_interop import (
    MIB,
    JsNode,
    OurSide,
    asked_digest,
    echoed,
    held_and_reset,
    js_node,
    was_reset,
)
from tests.support_net import identified, network, until

pytestmark = pytest.mark.slow
SECURITIES = {"noise": "/noise", "tls": "/tls/1.0.0"}
each_security = pytest.mark.parametrize("security", SECURITIES)
each_direction = pytest.mark.parametrize("dialler", ["us", "js"])
BIG = 64 * MIB
TEXT = b"the half that is closed"
DIGEST_OF_TEXT = {"size": len(TEXT), "sha256": hashlib.sha256(TEXT).hexdigest()}


@asynccontextmanager
async def connected(js: Installed, security: str, dialler: str) -> AsyncIterator[tuple[Network, OurSide, JsNode]]:
    with trio.fail_after(100):
        async with js_node(js, security) as theirs, network(1) as net:
            ours = OurSide(net)
            if dialler == "us":
                assert await net.connect(theirs.addresses[0]) == theirs.peer_id
            else:
                about = await theirs.ask("dial", address=net.addresses()[0])
                assert about == {"peer": net.peer_id, "security": SECURITIES[security], "muxer": "/yamux/1.0.0"}
            (peer,) = net.peers()
            assert (peer.security, peer.muxer) == (SECURITIES[security], "/yamux/1.0.0")
            assert peer.direction == ("out" if dialler == "us" else "in")
            yield net, ours, theirs


@each_security
@each_direction
async def test_each_side_is_identified_and_pinged_by_the_other(js: Installed, security: str, dialler: str) -> None:
    async with connected(js, security, dialler) as (net, _, theirs):
        about = await theirs.ask("identified", peer=net.peer_id)
        assert about["agent"] == "test/1"
        assert ping.PROTOCOL in about["protocols"]
        await identified(net, theirs.peer_id)
        assert "js-libp2p" in net.peers()[0].agent
        assert "/p2pshare-test/echo/1.0.0" in net.protocols_of(theirs.peer_id)
        assert await theirs.ask("ping", peer=net.peer_id) < 5000  # milliseconds
        async with await net.open_stream(theirs.peer_id, [ping.PROTOCOL]) as stream:
            for _ in range(3):
                assert await ping.measure(stream) < 5


@each_security
@each_direction
async def test_sixty_four_mebibytes_come_back_as_they_went(js: Installed, security: str, dialler: str) -> None:
    async with connected(js, security, dialler) as (net, _, theirs):
        sent, size, received, seconds = await echoed(net, theirs.peer_id, BIG)
        assert (size, received) == (BIG, sent)
        begun = trio.current_time()
        theirs_said = await theirs.ask("echo", peer=net.peer_id, size=BIG)
        assert (theirs_said["size"], theirs_said["sha256"]) == (BIG, theirs_said["sent"])
        print(
            f"64 MiB echoed, {security}, {dialler} dialled: asked by us {seconds:.1f} s, by js "
            f"{trio.current_time() - begun:.1f} s"
        )


@each_security
@each_direction
async def test_a_half_that_is_closed_leaves_the_other_open(js: Installed, security: str, dialler: str) -> None:
    async with connected(js, security, dialler) as (net, _, theirs):
        assert await asked_digest(net, theirs.peer_id, TEXT) == DIGEST_OF_TEXT
        assert await theirs.ask("half", peer=net.peer_id, text=TEXT.decode()) == DIGEST_OF_TEXT


@each_security
@each_direction
async def test_a_reset_arrives_as_a_reset_and_ends_nothing_else(js: Installed, security: str, dialler: str) -> None:
    async with connected(js, security, dialler) as (net, ours, theirs):
        assert await was_reset(net, theirs.peer_id)
        assert await theirs.ask("reset", peer=net.peer_id) == "StreamResetError"
        assert await theirs.ask("hold", peer=net.peer_id) == "aborted"
        await ours.ended.wait()
        assert ours.ends == ["reset"]
        await held_and_reset(net, theirs.peer_id)
        assert await asked_digest(net, theirs.peer_id, TEXT) == DIGEST_OF_TEXT  # the connection lives
        assert await theirs.ask("ends") == ["StreamResetError"]


@each_security
async def test_another_peer_than_dialled_is_refused_by_both(js: Installed, security: str) -> None:
    """Each side is sent to the other's address under a name that is not the other's."""
    with trio.fail_after(60):
        async with js_node(js, security) as one, js_node(js, security) as two, network(1) as net:
            wrong = f"{one.addresses[0].rpartition('/')[0]}/{two.peer_id}"
            with pytest.raises(RemoteError, match=f"not {two.peer_id}"):
                await net.connect(wrong)
            ours = f"{net.addresses()[0].rpartition('/')[0]}/{two.peer_id}"
            with pytest.raises(AssertionError, match="EncryptionFailedError"):
                await one.ask("dial", address=ours)
            # It proved to us who it is before it looked who we are; then it leaves.
            await until(net, lambda: not net.is_connected(one.peer_id))
