"""DHT messages: the golden bytes of protocols/kad.md, and what becomes of a stranger's."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from p2pshare_protocols import kad_messages, varint
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.kad_messages import Connection, Kind, Message, Peer, Record

PEER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
PEER_HEX = "0024080112202ffb6dc41d8e9b2c0a0d5dc98d6bb2de6f7ea7a3ab6e5d8f4de36e1d3a0c1b52"
KEY = bytes.fromhex("1220") + bytes(range(32))

GOLDEN = {
    "ping": (Message(Kind.PING), "0805"),
    "find node": (Message(Kind.FIND_NODE, key=KEY), "0804" + "1222" + KEY.hex()),
    "put value": (
        Message(Kind.PUT_VALUE, key=b"k", record=Record(b"k", b"v")),
        "12016b" + "1a06" + "0a016b" + "120176",
    ),
    "add provider": (
        Message(
            Kind.ADD_PROVIDER,
            key=KEY,
            providers=(Peer(PEER, ("/ip4/192.0.2.1/tcp/4001",), Connection.CONNECTED),),
        ),
        "0802" + "1222" + KEY.hex() + "4a34" + "0a26" + "{PEER}" + "1208" + "04c0000201060fa1" + "1801",
    ),
    "closer": (
        Message(Kind.GET_PROVIDERS, key=KEY, closer=(Peer(PEER),)),
        "0803" + "1222" + KEY.hex() + "4228" + "0a26" + "{PEER}",
    ),
}


def golden(name: str) -> tuple[Message, bytes]:
    from p2pshare_protocols import peerid

    message, text = GOLDEN[name]
    return message, bytes.fromhex(text.replace("{PEER}", peerid.peer_id_to_bytes(PEER).hex()))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes_both_ways(name: str) -> None:
    message, binary = golden(name)
    assert kad_messages.encode(message).hex() == binary.hex()
    assert kad_messages.decode(binary) == message
    assert kad_messages.frame(message) == varint.encode(len(binary)) + binary


@pytest.mark.parametrize("name", GOLDEN)
def test_the_specification_shows_the_same_bytes(name: str) -> None:
    spec = (Path(__file__).parents[2] / "protocols" / "kad.md").read_text()
    assert golden(name)[1].hex() in spec


def test_libp2p_reads_what_we_write() -> None:
    """The protobuf classes of libp2p are generated from the specification's own file."""
    from libp2p.kad_dht.pb import kademlia_pb2

    message, binary = golden("add provider")
    theirs = kademlia_pb2.Message()
    theirs.ParseFromString(binary)
    assert (theirs.type, theirs.key) == (2, KEY)
    assert theirs.providerPeers[0].addrs[0].hex() == "04c0000201060fa1"
    assert kad_messages.decode(theirs.SerializeToString()) == message


def test_fields_in_any_order_and_unknown_ones() -> None:
    binary = bytes.fromhex("12016b" + "0804" + "a00601" + "ea3f0161" + "fd0700000000" + "f90f0000000000000000")
    assert kad_messages.decode(binary) == Message(Kind.FIND_NODE, key=b"k")
    assert kad_messages.decode(bytes.fromhex("0805" + "50" + "ff" * 9 + "01")).kind is Kind.PING  # a negative int32


def test_two_thousand_peers_are_cut_to_twenty() -> None:
    rng = random.Random(1)
    ids = [b"\x12\x20" + rng.randbytes(32) for _ in range(2000)]
    body = b"".join(b"\x42\x24\x0a\x22" + peer for peer in ids)
    message = kad_messages.decode(b"\x08\x04" + body)
    assert len(message.closer) == 20
    providers = b"".join(b"\x4a\x24\x0a\x22" + peer for peer in ids)
    assert len(kad_messages.decode(b"\x08\x03" + providers).providers) == 100


def test_bad_peers_and_addresses_are_left_out_and_the_rest_is_kept() -> None:
    _, binary = golden("closer")
    bad_peer = bytes.fromhex("4204" + "0a020001")
    assert len(kad_messages.decode(binary + bad_peer).closer) == 1
    peer = bytes.fromhex("0a26") + binary[-38:] + bytes.fromhex("1202ffff" + "1208" + "04c0000201060fa1")
    parsed = kad_messages.decode_peer(peer)
    assert parsed is not None
    assert parsed.addresses == ("/ip4/192.0.2.1/tcp/4001",)
    assert kad_messages.decode_peer(peer + peer[-10:] * 100) == parsed


@pytest.mark.parametrize(
    "binary",
    ["08", "0806", "12ff", "12", "1202aa", "0b", "0c", "02", "ff" * 20, "12a101" + "00" * 161, "0800" * 4097],
)
def test_bad_bytes_are_refused(binary: str) -> None:
    with pytest.raises(RemoteProtocolError):
        kad_messages.decode(bytes.fromhex(binary))


def test_too_long_messages_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        kad_messages.decode(bytes(kad_messages.MAX_MESSAGE + 1))


def test_no_bytes_raise_anything_else() -> None:
    rng = random.Random(3)
    messages = [golden(name)[1] for name in GOLDEN]
    read = 0
    for _ in range(5000):
        junk = bytearray(rng.choice(messages))
        for _ in range(rng.randrange(4)):
            junk[rng.randrange(len(junk))] = rng.randrange(256)
        try:
            message = kad_messages.decode(bytes(junk[: rng.randrange(len(junk) + 1)]))
        except RemoteProtocolError:
            continue
        read += 1
        assert kad_messages.decode(kad_messages.encode(message)) == message
    assert read > 200


@pytest.mark.parametrize(
    ("answer", "asker", "right"),
    [
        (Message(Kind.FIND_NODE, key=KEY), PEER, True),
        (Message(Kind.FIND_NODE), PEER, True),  # as go-libp2p has it
        (Message(Kind.GET_PROVIDERS, key=KEY), PEER, False),
        (Message(Kind.FIND_NODE, key=KEY[:-1] + b"x"), PEER, False),
        (Message(Kind.FIND_NODE, key=KEY, closer=(Peer(PEER),)), PEER, False),
        (Message(Kind.FIND_NODE, key=KEY, closer=(Peer(PEER),)), "", True),  # as js-libp2p has it
        (Message(Kind.FIND_NODE, key=KEY, providers=(Peer(PEER),)), PEER, True),  # how one reads back
    ],
)
def test_an_answer_belongs_to_its_question(answer: Message, asker: str, right: bool) -> None:
    question = Message(Kind.FIND_NODE, key=KEY)
    if right:
        kad_messages.check_answer(question, answer, asker)
        return
    with pytest.raises(RemoteProtocolError):
        kad_messages.check_answer(question, answer, asker)
