"""TLS records: no cut is an end, what is damaged gives no byte, and a muxer runs over them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pshare.net.muxer import Muxer
from p2pshare.net.own import own_muxers, own_sessions
from p2pshare.net.session_tls import TlsSession
from p2pshare.net.session_tls_engine import TlsEngine
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.tls_identity import TLS
from tests.support_session import ALICE, BOB, socket_pair, stream_pair
from tests.support_tls import ALICES, BOBS, YAMUX, secured


def shaken() -> tuple[TlsEngine, TlsEngine]:
    alice = ALICES.engine(initiator=True, expected_peer=BOB.peer_id, muxers=())
    bob = BOBS.engine(initiator=False, expected_peer=None, muxers=())
    done = False
    from_bob = b""
    while not done:
        alice.handshake(from_bob)
        done = bob.handshake(b"".join(alice.data_to_send()))
        from_bob = b"".join(bob.data_to_send())
    return alice, bob


async def _record(data: bytes) -> tuple[TlsSession, trio.abc.Stream, bytes]:
    """Bob's session, the raw end that feeds it, and the wire bytes of records with `data` from Alice."""
    alice, bob = shaken()
    left, right = trio.testing.memory_stream_pair()
    alice.seal(data)
    return TlsSession(right, bob), left, b"".join(alice.data_to_send())


async def test_a_cut_anywhere_is_never_a_clean_end() -> None:
    whole = len((await _record(bytes(30)))[2])
    for cut in range(whole + 1):
        bob, raw, wire = await _record(bytes(30))
        await raw.send_all(wire[:cut])
        await raw.aclose()
        if cut == whole:
            assert await bob.receive_some() == bytes(30)
        with pytest.raises(trio.BrokenResourceError, match="close_notify"):
            await bob.receive_some()


async def test_a_damaged_record_is_an_error_and_gives_no_byte() -> None:
    for position in (0, 3, 5, 17, 40, -17, -16, -1):
        bob, raw, wire = await _record(bytes(16000))
        damaged = bytearray(wire)
        damaged[position] ^= 1
        await raw.send_all(damaged)
        await raw.aclose()
        with pytest.raises((RemoteProtocolError, trio.BrokenResourceError)):
            await bob.receive_some()


async def test_what_receive_some_left_comes_first_from_receive_views() -> None:
    alice, bob = await secured(*await socket_pair())
    await alice.send([b"line", bytes(70000)])
    assert await bob.receive_some(4) == b"line"
    got = 0
    while got < 70000:
        got += sum(map(len, await bob.receive_views()))
    assert got == 70000
    await alice.aclose()
    await bob.aclose()


async def test_an_aborted_connection_is_seen_as_lost() -> None:
    alice, bob = await secured(*await socket_pair())
    await alice.abort()
    with pytest.raises(trio.BrokenResourceError):
        await bob.receive_some()
    await bob.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await bob.receive_some()


async def test_a_cancelled_send_leaves_the_session_broken() -> None:
    alice, bob = await secured(*await socket_pair())
    with trio.move_on_after(0.2) as scope:
        while True:  # bob does not read: the kernel fills up
            await alice.send([bytes(1 << 20)])
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await alice.send([b"x"])
    with trio.fail_after(5):
        await alice.aclose()  # nothing of a close_notify: a record was cut
    await bob.abort()


async def test_streams_are_muxed_over_tls() -> None:
    alice, bob = await secured(*await socket_pair(), (YAMUX,))
    left, right = Muxer(alice, initiator=True), Muxer(bob, initiator=False)
    data = bytes(range(256)) * (1 << 14)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.run)
            nursery.start_soon(right.run)
            one, two = await stream_pair(left, right)

            async def push() -> None:
                await one.send_all(data)
                await one.send_eof()

            nursery.start_soon(push)
            got = bytearray()
            while part := await two.receive_some():
                got += part
            assert got == data
            await left.aclose()
            await right.on_closed.wait()
    assert right.close_reason == ""


async def test_a_cut_connection_is_no_proper_end_for_the_muxer() -> None:
    alice, bob = await secured(*await socket_pair(), (YAMUX,))
    right = Muxer(bob, initiator=False)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(right.run)
            await alice._wire.aclose()
            await right.on_closed.wait()
    assert "lost" in right.close_reason


async def test_tls_is_offered_after_noise() -> None:
    names = [maker.name for maker in own_sessions(ALICE)]  # type: ignore[arg-type]
    assert names[-1] == TLS
    assert "/noise" in names[:-1]
    assert own_muxers()[0].name == YAMUX
