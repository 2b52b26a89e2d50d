"""How many answers a dial and a request wait for: counted as turns of the bytes on a relay between two nodes."""

from __future__ import annotations

import pytest
import trio

from p2pshare.errors import RemoteError
from p2pshare.net.api import Stream
from p2pshare.net.switch import Switch
from p2pshare_protocols.noise_cipher import NOISE, NOISE_AESGCM
from tests.support_net import identified, until
from tests.support_relay import ECHO, PLAIN, exchange, relayed, silence, waits_until_answer, with_aes

ABSENT = "/p2pshare/absent/1"


@pytest.fixture(autouse=True)
def no_identify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that need identify undo it."""
    silence(monkeypatch)


async def test_a_first_dial_to_one_of_ours_waits_for_three_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        assert waits_until_answer(relay) == 3  # session, Noise, request
        assert one.peers()[0].security == NOISE_AESGCM


async def test_a_dial_to_one_of_ours_that_is_known_waits_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        await one.disconnect(two.peer_id)
        await until(two, lambda: not two.is_connected(one.peer_id))
        relay.turns.clear()
        await exchange(relay, one, two.peer_id, ECHO)
        assert waits_until_answer(relay) == 2  # session with Noise, request
        assert relay.connections == 2


async def test_a_peer_that_is_not_ours_costs_no_round_trip_for_our_own_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True, False)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, PLAIN)
        assert waits_until_answer(relay) == 4  # session, Noise, stream, request
        assert one.peers()[0].security == NOISE


async def test_nothing_goes_ahead_towards_a_peer_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first packet to a stranger has proposals only, and the request waits for the stream's agreement."""
    with_aes(monkeypatch, False)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, PLAIN)
        await one.disconnect(two.peer_id)
        await until(two, lambda: not two.is_connected(one.peer_id))
        relay.turns.clear()
        await exchange(relay, one, two.peer_id, PLAIN)
        assert waits_until_answer(relay) == 3  # session with Noise, stream, request: that it speaks /noise is known


async def test_a_stranger_without_early_muxer_negotiation_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only muxer is spoken behind its proposal."""
    with_aes(monkeypatch, True, False)
    monkeypatch.setattr("p2pshare_protocols.noise.choose_muxer", lambda *_: None)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, PLAIN)
        assert waits_until_answer(relay) == 4  # session, Noise, stream with the muxer, request
        assert isinstance(one, Switch)
        assert not one._upgrader._careful


async def test_who_does_not_take_the_muxer_is_told_apart_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True, False)
    monkeypatch.setattr("p2pshare_protocols.noise.choose_muxer", lambda *_: None)
    async with relayed() as (one, two, relay):
        assert isinstance(one, Switch)
        assert isinstance(two, Switch)
        two._upgrader._muxers = {"/mplex/6.7.0": two._upgrader._muxers["/yamux/1.0.0"]}
        address = f"{one.addresses_of(two.peer_id)[0]}/p2p/{two.peer_id}"
        for careful in (False, True):
            assert bool(one._upgrader._careful) == careful
            with pytest.raises(RemoteError, match="speaks none of /yamux/") as caught:
                await one.connect(address)
            assert caught.value.kind == "failed"
            await until(one, lambda: not one.is_connected(two.peer_id))
        two._upgrader._muxers = {"/yamux/1.0.0": two._upgrader._muxers["/mplex/6.7.0"]}
        await one.connect(address)
        assert not one._upgrader._careful
        assert await exchange(relay, one, two.peer_id, PLAIN) == PLAIN


async def test_a_peer_that_lost_our_suite_is_dialled_again_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True, False)
    async with relayed() as (one, two, relay):
        assert isinstance(one, Switch)
        one._upgrader.known.learn(two.peer_id, NOISE_AESGCM, ours=True)
        await exchange(relay, one, two.peer_id, PLAIN)
        assert relay.connections == 2
        kind = one._upgrader.known.of(two.peer_id)
        assert kind is not None
        assert (kind.session, kind.ours) == (NOISE, False)
        assert one.peers()[0].security == NOISE


async def test_a_refusal_is_an_error_at_the_first_read_and_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        stream = await one.open_stream(two.peer_id, [ABSENT])
        await stream.send_all(b"P" * 200_000)
        for _ in range(2):
            with pytest.raises(RemoteError, match="does not speak /p2pshare/absent/1") as caught:
                await stream.receive_some(100)
            assert caught.value.kind == "failed"
        with pytest.raises(RemoteError):
            await stream.send_all(b"more")
        await stream.aclose()
        assert await exchange(relay, one, two.peer_id, ECHO) == ECHO


async def test_a_refusal_that_comes_while_much_is_sent_is_told_to_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        async with await one.open_stream(two.peer_id, [ABSENT]) as stream:
            with trio.fail_after(5), pytest.raises(RemoteError, match="does not speak"):
                while True:
                    await stream.send_all(b"\x00" * 1_000_000)


async def test_a_read_of_the_answer_that_is_cancelled_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        async with await one.open_stream(two.peer_id, [ECHO]) as stream:
            for _ in range(3):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await stream.receive_some(10)
            await stream.send_all(b"0123456789" * 20_000)
            await stream.send_eof()
            got = bytearray()
            while data := await stream.receive_some(7001):
                got += data
            assert got == b"0123456789" * 20_000


async def test_what_was_written_is_delivered_when_the_stream_is_closed_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        heard: list[bytes] = []
        done = trio.Event()

        async def hear(stream: Stream) -> None:
            while data := await stream.receive_some(65536):
                heard.append(data)
            done.set()

        two.handle("/p2pshare/test-hear/1", hear)
        async with await one.open_stream(two.peer_id, ["/p2pshare/test-hear/1"]) as stream:
            await stream.send_all(b"told" * 50_000)
        with trio.fail_after(5):
            await done.wait()
        assert b"".join(heard) == b"told" * 50_000


async def test_a_choice_of_protocols_is_asked_for_until_identify_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        assert await exchange(relay, one, two.peer_id, ABSENT, ECHO) == ECHO
        relay.turns.clear()
        [connection] = [c for c in one.connections() if c.peer_id == two.peer_id]  # type: ignore[attr-defined]
        connection.protocols = frozenset({ECHO})
        assert await exchange(relay, one, two.peer_id, ABSENT, ECHO) == ECHO
        assert waits_until_answer(relay) == 1


async def test_a_protocol_told_by_identify_is_taken_for_granted_without_our_suite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_aes(monkeypatch, False)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, PLAIN)
        [connection] = [c for c in one.connections() if c.peer_id == two.peer_id]  # type: ignore[attr-defined]
        connection.protocols = frozenset({PLAIN})
        relay.turns.clear()
        await exchange(relay, one, two.peer_id, PLAIN)
        assert waits_until_answer(relay) == 1


async def test_status_says_how_connections_are_paced() -> None:
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        [(name, count)] = dict(one.status()["congestion"]).items()  # type: ignore[call-overload]
        assert (bool(name), count) == (True, 1)


async def test_identify_marks_our_nodes_that_have_no_aes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with_aes(monkeypatch, False)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        await identified(one, two.peer_id)
        assert isinstance(one, Switch)
        kind = one._upgrader.known.of(two.peer_id)
        assert kind is not None
        assert (kind.session, kind.ours) == (NOISE, True)


async def test_a_new_stream_between_our_nodes_takes_megabytes_before_any_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long path is filled from the start. Without our suite the first 256 KiB have to be used up first."""
    with_aes(monkeypatch, True)
    async with relayed() as (one, two, relay):
        await exchange(relay, one, two.peer_id, ECHO)
        sent, heard = trio.Event(), trio.Event()
        counted = 0

        async def wait(stream: Stream) -> None:
            nonlocal counted
            await sent.wait()
            while data := await stream.receive_some(65536):
                counted += len(data)
            heard.set()

        two.handle("/p2pshare/test-wait/1", wait)
        async with await one.open_stream(two.peer_id, ["/p2pshare/test-wait/1"]) as stream:
            with trio.fail_after(10):
                await stream.send_all(bytes(3 << 20))
            sent.set()
            await stream.send_eof()
            with trio.fail_after(10):
                await heard.wait()
        assert counted == 3 << 20
