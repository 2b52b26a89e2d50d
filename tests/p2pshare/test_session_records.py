"""Sessions over real sockets and in memory: handshakes, damage, cuts, and what travels well."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from p2pshare.errors import TimedOut
from p2pshare.net.session import (
    MAX_BATCH,
    PROTOCOLS,
    Session,
    has_aes_instructions,
    secure_inbound,
    secure_outbound,
    suites,
)
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.noise_cipher import NOISE, NOISE_AESGCM
from tests.support_session import ALICE, BOB, secured, socket_pair

both_suites = pytest.mark.parametrize("suite", PROTOCOLS)
both_wires = pytest.mark.parametrize("memory", [True, False])


async def wires(memory: bool) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair() if memory else await socket_pair()


async def read_all(session: Session, count: int) -> bytes:
    out = bytearray()
    while len(out) < count and (data := await session.receive_some()):
        out += data
    return bytes(out)


@both_suites
@both_wires
async def test_both_sides_know_each_other_and_bytes_travel(suite: str, memory: bool) -> None:
    alice, bob = await secured(*await wires(memory), suite, ("/yamux/1.0.0",))
    assert (alice.remote_peer, bob.remote_peer) == (BOB.peer_id, ALICE.peer_id)
    assert alice.remote_public_key.endswith(BOB.public)
    assert alice.muxer == bob.muxer == "/yamux/1.0.0"
    assert alice.suite == bob.suite == suite
    data = bytes(range(256)) * (3 * MAX_BATCH // 256)  # more than a batch, so more than one flush
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.send, [b"head", bytearray(data), memoryview(b"tail")])
        assert await read_all(bob, len(data) + 8) == b"head" + data + b"tail"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bob.send, [b"back"])
        view = bytearray(10)
        assert await alice.receive_into(memoryview(view)) == 4
    assert view.startswith(b"back")
    assert bob.bytes_in == alice.bytes_out > len(data)
    await alice.aclose()
    assert await bob.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await alice.send([b"x"])
    await bob.aclose()


@both_suites
async def test_another_peer_than_expected_is_refused(suite: str) -> None:
    left, right = await socket_pair()
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            session = await secure_inbound(right, suite, BOB)
            # The third message came before the dialler looked at our name; then it cuts the connection.
            with pytest.raises(trio.BrokenResourceError):
                assert await session.receive_some() == b""
                raise trio.BrokenResourceError
            await session.aclose()

        nursery.start_soon(answer)
        with pytest.raises(RemoteProtocolError, match="not 12D3"):
            await secure_outbound(left, suite, ALICE, expected_peer=ALICE.peer_id)


async def test_a_silent_peer_times_out(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    with pytest.raises(TimedOut):
        await secure_inbound(left, NOISE, BOB, timeout=5)
    assert await right.receive_some(1) == b""


async def test_bytes_read_with_the_negotiation_are_not_lost() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            session = await secure_outbound(left, NOISE, ALICE, expected_peer=None)
            await session.send([b"at once"])

        nursery.start_soon(dial)
        early = await right.receive_some(20)
        bob = await secure_inbound(right, NOISE, BOB, received=bytes(early))
        assert await bob.receive_some() == b"at once"


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


async def _record(suite: str, data: bytes) -> tuple[Session, trio.abc.Stream, bytes]:
    """Bob's session, the raw end that feeds it, and the wire bytes of records with `data` from Alice."""
    left, right = trio.testing.memory_stream_pair()
    alice, bob = await secured(left, right, suite)
    alice.seal([memoryview(data)])
    return bob, left, bytes(alice._out[: alice._out_end])


@both_suites
async def test_a_cut_anywhere_in_a_record_is_never_a_clean_end(suite: str) -> None:
    whole = len((await _record(suite, bytes(30)))[2])
    for cut in range(1, whole):
        bob, raw, wire = await _record(suite, bytes(30))
        await raw.send_all(wire[:cut])
        await raw.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await bob.receive_some()
    bob, raw, wire = await _record(suite, bytes(30))
    await raw.send_all(wire)
    await raw.aclose()
    assert await bob.receive_some() == bytes(30)
    assert await bob.receive_some() == b""


@both_suites
async def test_a_damaged_record_is_an_error_and_gives_no_byte(suite: str) -> None:
    for position in (0, 1, 2, 17, 40, -17, -16, -1):
        bob, raw, wire = await _record(suite, bytes(70000))
        damaged = bytearray(wire)
        damaged[position] ^= 1
        await raw.send_all(damaged)
        await raw.aclose()
        with pytest.raises((RemoteProtocolError, trio.BrokenResourceError)):
            while await bob.receive_some():
                pass


@both_suites
async def test_a_cut_handshake_is_an_error(suite: str) -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def cut() -> None:
            await left.send_all(b"\0\x20" + bytes(range(20)))
            await left.aclose()

        nursery.start_soon(cut)
        with pytest.raises(RemoteProtocolError):
            await secure_inbound(right, suite, BOB)


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
    await alice.abort()
    await bob.abort()


def test_suites_follow_the_cpu(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu aes avx\n")
    assert has_aes_instructions(info)
    info.write_text("processor : 0\nFeatures\t: fp asimd aes pmull\n")
    assert has_aes_instructions(info)
    info.write_text("flags\t\t: fpu vaes\n")
    assert not has_aes_instructions(info)
    assert not has_aes_instructions(tmp_path / "none")
    assert suites(True) == (NOISE_AESGCM, NOISE)
    assert suites(False) == (NOISE,)
