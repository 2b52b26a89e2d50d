"""Two networks talk: streams, identify, pings, events, errors."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pshare.errors import ConfigError, Exists, LocalError, RemoteError, TimedOut, Unreachable, UsageError
from p2pshare.net import ping
from p2pshare.net.api import PeerEvent, Stream
from p2pshare.net.connection import MAX_INBOUND_STREAMS
from tests.support_net import identified, key_pair, network, pair, until

ECHO = "/test/echo/1"


async def echo(stream: Stream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def test_a_stream_carries_bytes_both_ways_and_ends_properly() -> None:
    async with pair() as (one, two):
        two.handle(ECHO, echo)
        stream = await one.open_stream(two.peer_id, [ECHO])
        assert (stream.peer_id, stream.protocol) == (two.peer_id, ECHO)
        await stream.send_all(b"hello")
        assert await stream.receive_exactly(5) == b"hello"
        await stream.send_eof()
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_the_dialled_peer_opens_streams_too() -> None:
    async with pair() as (one, two):
        one.handle(ECHO, echo)
        async with await two.open_stream(one.peer_id, [ECHO]) as stream:
            await stream.send_all(b"back")
            assert await stream.receive_exactly(4) == b"back"


async def test_our_streams_pass_trios_conformance_check() -> None:
    async with pair() as (one, two):
        accepted: list[Stream] = []
        arrived = trio.Semaphore(0)
        hold = trio.Event()

        async def keep(stream: Stream) -> None:
            accepted.append(stream)
            arrived.release()
            await hold.wait()

        two.handle("/test/keep/1", keep)

        async def make() -> tuple[Stream, Stream]:
            stream = await one.open_stream(two.peer_id, ["/test/keep/1"])
            await arrived.acquire()
            return stream, accepted.pop()

        await trio.testing.check_half_closeable_stream(make, None)
        hold.set()


async def test_a_stream_opened_to_a_known_peer_dials_it() -> None:
    async with network(1) as one, network(2) as two:
        two.handle(ECHO, echo)
        one.add_addresses(two.peer_id, two.addresses())
        async with await one.open_stream(two.peer_id, [ECHO]) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_exactly(1) == b"x"
        assert one.is_connected(two.peer_id)


async def test_the_first_protocol_that_both_speak_is_taken() -> None:
    async with pair() as (one, two):
        two.handle(ECHO, echo)
        stream = await one.open_stream(two.peer_id, ["/test/echo/2", ECHO])
        assert stream.protocol == ECHO
        await stream.aclose()


async def test_a_protocol_that_the_peer_does_not_speak_is_an_error_and_no_more() -> None:
    async with pair() as (one, two):
        with pytest.raises(RemoteError, match="does not speak") as caught:
            async with await one.open_stream(two.peer_id, ["/test/unknown/1"]) as stream:
                await stream.receive_some()
        assert caught.value.kind == "failed"
        assert one.is_connected(two.peer_id)


async def test_identify_tells_protocols_agent_and_addresses() -> None:
    async with pair() as (one, two):
        await identified(one, two.peer_id)
        await identified(two, one.peer_id)
        [seen] = one.peers()
        assert (seen.peer_id, seen.agent, seen.direction) == (two.peer_id, "test/2", "out")
        assert ping.PROTOCOL in one.protocols_of(two.peer_id)
        assert seen.listen_addresses == tuple(two.addresses_of(two.peer_id) or [seen.address])
        assert two.addresses_of(one.peer_id) == [one.addresses()[0].split("/p2p/")[0]]
        assert (seen.muxer, seen.security.startswith(("/noise", "/p2pshare/noise"))) == ("/yamux/1.0.0", True)


async def test_ping_measures_and_traffic_is_counted() -> None:
    async with pair() as (one, two):
        async with await one.open_stream(two.peer_id, [ping.PROTOCOL]) as stream:
            assert 0 < await ping.measure(stream) < 5
        [seen] = one.peers()
        assert seen.bytes_in > 64
        assert seen.bytes_out > 64
        assert one.status()["bytes"] == {"in": seen.bytes_in, "out": seen.bytes_out}


async def test_events_tell_of_coming_identifying_and_going() -> None:
    async with network(2) as two:
        with two.events() as events, trio.fail_after(10):
            async with network(1) as one:
                await one.connect(two.addresses()[0])
                assert await events.receive() == PeerEvent("connected", one.peer_id)
                assert await events.receive() == PeerEvent("identified", one.peer_id)
            assert await events.receive() == PeerEvent("disconnected", one.peer_id)
        assert two.peers() == []


async def test_disconnect_ends_the_connection_on_both_sides() -> None:
    async with pair() as (one, two):
        await until(two, lambda: two.is_connected(one.peer_id))
        await one.disconnect(two.peer_id)
        await until(one, lambda: not one.is_connected(two.peer_id))
        await until(two, lambda: not two.is_connected(one.peer_id))


async def test_after_a_disconnect_the_next_stream_dials_anew() -> None:
    async with pair() as (one, two):
        two.handle(ECHO, echo)
        await one.disconnect(two.peer_id)
        async with await one.open_stream(two.peer_id, [ECHO]) as stream:
            await stream.send_all(b"again")
            assert await stream.receive_exactly(5) == b"again"


async def test_a_wrong_peer_id_is_refused() -> None:
    async with network(1) as one, network(2) as two:
        address = two.addresses()[0].replace(two.peer_id, key_pair(3).peer_id)
        with pytest.raises(RemoteError):
            await one.connect(address)
        assert one.peers() == []
        assert not one.is_connected(two.peer_id)


async def test_a_node_does_not_dial_itself() -> None:
    async with network(1) as one:
        with pytest.raises(UsageError):
            await one.connect(one.addresses()[0])
        with pytest.raises(Unreachable):
            await one.open_stream(one.peer_id, [ECHO])


async def test_ourselves_under_another_name_are_refused_too() -> None:
    async with network(1) as one, network(1) as twin, network(2) as two:
        with pytest.raises(RemoteError):
            await one.connect(twin.addresses()[0].replace(one.peer_id, two.peer_id))


@pytest.mark.parametrize(
    "address", ["nonsense", "/ip4/127.0.0.1/tcp/1", f"/ip4/0.0.0.0/tcp/1/p2p/{key_pair(2).peer_id}", "/p2p/12D3KooWx"]
)
async def test_connect_refuses_what_is_no_address_of_a_peer(address: str) -> None:
    async with network(1) as one:
        with pytest.raises(UsageError):
            await one.connect(address)


async def test_a_closed_port_is_unreachable_and_says_so() -> None:
    async with network(1) as one:
        async with network(2) as two:
            address = two.addresses()[0]
        with pytest.raises(Unreachable, match="refused"):
            await one.connect(address)


async def test_a_peer_that_never_answers_times_out() -> None:
    async with network(1) as one:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        with pytest.raises(TimedOut):
            await one.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{key_pair(2).peer_id}", timeout=0.2)
        await listener.aclose()


async def test_a_port_in_use_is_said_with_its_address() -> None:
    async with network(1) as one:
        address = one.addresses()[0].split("/p2p/")[0]
        with pytest.raises(Exists, match=address) as caught:
            async with network(2, listen=[address]):
                pass
        assert caught.value.hint


async def test_an_address_of_another_machine_is_said_too() -> None:
    with pytest.raises(LocalError, match="no such address"):
        async with network(1, listen=["/ip4/198.51.100.1/tcp/0"]):
            pass
    with pytest.raises(ConfigError):
        async with network(1, listen=["/ip4/127.0.0.1/udp/0"]):
            pass


async def test_the_same_port_can_be_taken_again_after_closing() -> None:
    async with pair() as (one, two):
        address = two.addresses()[0].split("/p2p/")[0]
        assert one.is_connected(two.peer_id)
    async with network(2, listen=[address]) as again:
        assert again.addresses()[0].startswith(address)


async def test_the_unspecified_address_is_never_advertised() -> None:
    async with network(1, listen=["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"]) as one:
        assert one.addresses()
        assert not [a for a in one.addresses() if "/0.0.0.0/" in a or "/::/" in a or "/tcp/0" in a]
        await identified_by_another(one.addresses())


async def identified_by_another(addresses: list[str]) -> None:
    """Every loopback address of the list can be dialled."""
    for address in addresses:
        if "/127.0.0.1/" in address or "/::1/" in address:
            async with network(2) as two:
                await two.connect(address)


async def test_a_handler_that_raises_a_thousand_times_ends_only_its_streams() -> None:
    async with pair() as (one, two):

        async def bad(stream: Stream) -> None:
            raise ZeroDivisionError("a defect of a handler")

        two.handle("/test/bad/1", bad)
        two.handle(ECHO, echo)
        for _ in range(1000):
            with pytest.raises((Unreachable, trio.BrokenResourceError)):
                async with await one.open_stream(two.peer_id, ["/test/bad/1"]) as stream:
                    await stream.receive_exactly(1)
        async with await one.open_stream(two.peer_id, [ECHO]) as stream:
            await stream.send_all(b"alive")
            assert await stream.receive_exactly(5) == b"alive"


async def test_streams_of_one_connection_are_bounded() -> None:
    async with pair() as (one, two):
        await identified(one, two.peer_id)
        await identified(two, one.peer_id)
        hold = trio.Event()
        waiting = 0

        async def wait(stream: Stream) -> None:
            nonlocal waiting
            waiting += 1
            await stream.send_all(b"!")
            await hold.wait()

        two.handle("/test/wait/1", wait)
        streams = []
        with trio.fail_after(20), pytest.raises((RemoteError, trio.BrokenResourceError)):
            for _ in range(MAX_INBOUND_STREAMS + 1):
                stream = await one.open_stream(two.peer_id, ["/test/wait/1"])
                await stream.receive_exactly(1)
                streams.append(stream)
        assert waiting == len(streams) == MAX_INBOUND_STREAMS
        hold.set()
        for stream in streams:
            await stream.reset()


async def test_handlers_of_one_connection_are_bounded_though_their_streams_are_gone() -> None:
    """A stream that the peer resets is gone for the muxer; its handler may still be at work."""
    async with pair() as (one, two):
        await identified(one, two.peer_id)
        await identified(two, one.peer_id)
        hold = trio.Event()
        running = 0

        async def work(stream: Stream) -> None:
            nonlocal running
            running += 1
            await stream.send_all(b"!")
            await hold.wait()

        two.handle("/test/work/1", work)
        refused = 0
        for _ in range(MAX_INBOUND_STREAMS + 40):
            try:
                async with await one.open_stream(two.peer_id, ["/test/work/1"]) as stream:
                    await stream.receive_exactly(1)
                    await stream.reset()
            except (RemoteError, trio.BrokenResourceError):
                refused += 1
        assert (running, refused) == (MAX_INBOUND_STREAMS, 40)
        hold.set()


async def test_leaving_a_stream_by_an_error_resets_it() -> None:
    async with pair() as (one, two):
        outcome: list[bytes | None] = []
        begun, ended = trio.Event(), trio.Event()

        async def read(stream: Stream) -> None:
            begun.set()
            try:
                outcome.append(await stream.receive_exactly(10))
            except trio.BrokenResourceError:
                outcome.append(None)
            ended.set()

        two.handle("/test/read/1", read)
        with pytest.raises(KeyError):
            async with await one.open_stream(two.peer_id, ["/test/read/1"]) as stream:
                await stream.send_all(b"half")
                with trio.fail_after(5):
                    await begun.wait()
                raise KeyError
        with trio.fail_after(5):
            await ended.wait()
        assert outcome == [None]


async def test_two_peers_that_dial_each_other_at_once_both_have_working_streams() -> None:
    async with network(1) as one, network(2) as two:
        one.handle(ECHO, echo)
        two.handle(ECHO, echo)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.connect, two.addresses()[0])
            nursery.start_soon(two.connect, one.addresses()[0])
        for a, b in ((one, two), (two, one)):
            async with await a.open_stream(b.peer_id, [ECHO]) as stream:
                await stream.send_all(b"x")
                assert await stream.receive_exactly(1) == b"x"
        assert len(one.peers()) == len(two.peers()) == 1


async def test_closing_is_quick_behind_a_peer_that_never_reads() -> None:
    async with network(2) as two:
        stuck = trio.Event()

        async def never_read(stream: Stream) -> None:
            stuck.set()
            await trio.sleep_forever()

        two.handle("/test/stuck/1", never_read)
        async with trio.open_nursery() as nursery:
            async with network(1) as one:
                await one.connect(two.addresses()[0])
                stream = await one.open_stream(two.peer_id, ["/test/stuck/1"])

                async def push() -> None:
                    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
                        while True:
                            await stream.send_all(bytes(1 << 20))

                nursery.start_soon(push)
                await stuck.wait()
                await trio.testing.wait_all_tasks_blocked(0.05)
                start = trio.current_time()
            assert trio.current_time() - start < 2
