"""identify: what we say, and what strangers may say of themselves."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pshare.net import identify, ping
from p2pshare.net.api import Stream
from p2pshare_protocols import varint
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.multiaddr import to_binary
from tests.support_net import identified, network, pair, until

LISTEN = "/ip4/192.0.2.1/tcp/4001"
OBSERVED = "/ip4/198.51.100.1/tcp/5"


def message(**fields: object) -> bytes:
    from p2pshare.net.libp2p_edge import Identify

    body: bytes = Identify(**fields).SerializeToString()
    return body


def body_of(sent: bytes) -> bytes:
    length, start = varint.decode(sent)
    assert len(sent) == start + length
    return sent[start:]


def test_what_we_say_is_what_is_read() -> None:
    sent = identify.encode(public_key=b"key", agent="p2pshare/1", listen=[LISTEN], protocols=["/a"], observed=OBSERVED)
    told = identify.decode(body_of(sent))
    assert told == identify.Identified("p2pshare/1", frozenset({"/a"}), (LISTEN,), OBSERVED)


def test_golden_bytes() -> None:
    sent = identify.encode(public_key=b"", agent="a", listen=[LISTEN], protocols=["/b"], observed=None)
    assert sent.hex() == ("1f0a00120804c0000201060fa11a022f622a0a697066732f302e312e30320161")


def test_what_is_hostile_is_left_out_or_refused() -> None:
    told = identify.decode(
        message(
            agent_version="evil\x1b[2J",
            protocols=["/ok", "/bad\n", "/" + "x" * 300, *[f"/{n}" for n in range(500)]],
            listen_addrs=[b"", b"\xff\xff", to_binary(LISTEN), *[to_binary(OBSERVED)] * 100],
            observed_addr=b"\x01",
        )
    )
    assert "\x1b" not in told.agent
    assert "/ok" in told.protocols
    assert all(len(p) < 300 and "\n" not in p for p in told.protocols)
    assert len(told.protocols) <= identify.MAX_PROTOCOLS
    assert told.listen_addresses[0] == LISTEN
    assert len(told.listen_addresses) <= identify.MAX_ADDRESSES
    assert told.observed is None
    assert identify.decode(b"\x1a\x02\xff\xfe\x32\x01\xff") == identify.Identified("", frozenset(), (), None)
    with pytest.raises(RemoteProtocolError):
        identify.decode(b"\xff\xff\xff")


@pytest.mark.parametrize("sent", [varint.encode(identify.MAX_MESSAGE + 1), b"\xff" * 20, b"\x05\xff\xff\xff\xff\xff"])
async def test_a_peer_that_lies_in_identify_stays_unidentified_and_connected(sent: bytes) -> None:
    async with network(1) as one, network(2) as two:
        asked = trio.Event()

        async def lie(stream: Stream) -> None:
            await stream.send_all(sent)
            asked.set()

        one.handle(identify.PROTOCOL, lie)
        await one.connect(two.addresses()[0])
        with trio.fail_after(5):
            await asked.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert two.is_connected(one.peer_id)
        assert two.protocols_of(one.peer_id) == frozenset()


async def test_a_push_replaces_what_was_known() -> None:
    async with pair() as (one, two):
        await identified(two, one.peer_id)
        async with await one.open_stream(two.peer_id, [identify.PUSH]) as stream:
            await stream.send_all(
                identify.encode(
                    public_key=b"", agent="new/1", listen=[LISTEN], protocols=["/test/new/1"], observed=None
                )
            )
            await stream.send_eof()
            await until(two, lambda: two.protocols_of(one.peer_id) == {"/test/new/1"})
        assert two.peers()[0].agent == "new/1"
        assert LISTEN in two.addresses_of(one.peer_id)


async def test_a_protocol_that_is_added_later_is_told_to_connected_peers() -> None:
    async with pair() as (one, two):
        await identified(one, two.peer_id)
        two.handle("/test/later/1", ping.answer)
        two.handle("/test/later/2", ping.answer)
        await until(one, lambda: {"/test/later/1", "/test/later/2"} <= one.protocols_of(two.peer_id))


async def test_of_private_addresses_only_those_are_kept_where_the_peer_itself_is() -> None:
    async with network(1) as one, network(2, allow_private_addresses=False) as two:
        await one.connect(two.addresses()[0])
        await identified(two, one.peer_id)
        own = one.addresses()[0].split("/p2p/")[0]
        assert two.addresses_of(one.peer_id) == [own]
        told = [own, "/ip4/10.0.0.1/tcp/22", "/ip4/127.0.0.2/tcp/22", "/ip4/8.8.8.8/tcp/4001"]
        async with await one.open_stream(two.peer_id, [identify.PUSH]) as stream:
            await stream.send_all(
                identify.encode(public_key=b"", agent="x", listen=told, protocols=["/pushed"], observed=None)
            )
            await until(two, lambda: two.protocols_of(one.peer_id) == {"/pushed"})
        assert sorted(two.addresses_of(one.peer_id)) == sorted([own, "/ip4/8.8.8.8/tcp/4001"])
