"""The frames of /p2pshare/exchange/1.0.0: golden bytes (also in protocols/exchange.md) and hostile headers."""

import pathlib

import msgpack
import pytest

from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError

LEAF = bytes.fromhex("01551220") + bytes(range(32))
HEX = LEAF.hex()
PEER = bytes.fromhex("002408011220") + bytes(range(32))
ADDRESS = bytes.fromhex("04c0000201060fa1")  # /ip4/192.0.2.1/tcp/4001
GOLDEN_OTHERS = "0000004987a17410a16901a16802a16e00a17a00a17103a1709192c426" + PEER.hex() + "c408" + ADDRESS.hex()

GOLDEN = {
    "0000002f83a17401a16901a172c424" + HEX: x.Have(1, LEAF),
    "0000003284a17401a16901a172c424" + HEX + "a166c3": x.Have(1, LEAF, fetching=True),
    "0000003083a17402a16902a16391c424" + HEX: x.Nodes(2, (LEAF,)),
    "0000005683a17403a16903a16392c424" + HEX + "c424" + HEX: x.Blocks(3, (LEAF, LEAF)),
    "0000000782a17404a16903": x.Cancel(3),
    "0000002c82a17405a172c424" + HEX: x.Bad(LEAF),
    "0000001485a17410a16901a16801a16e09a17ace00900000": x.Held(1, x.Holding.PART, 9, 9 << 20),
    GOLDEN_OTHERS: x.Held(1, x.Holding.ALL, 0, 0, 3, (x.Other(PEER, (ADDRESS,)),)),
    "0000003785a17411a16902a16391c424" + HEX + "a1739105a165c3": x.NodesData(2, (LEAF,), (5,), True),
    "0000001384a17412a16903a17392ce00100000ffa165c3": x.BlocksData(3, (1 << 20, -1), True),
    "0000001b83a17413a16907a16db1746f6f206d616e79207265717565737473": x.Refused(7, "too many requests"),
}


@pytest.mark.parametrize(("frame", "message"), GOLDEN.items(), ids=lambda v: type(v).__name__)
def test_golden_frames(frame: str, message: x.Message) -> None:
    assert x.encode(message).hex() == frame
    data = bytes.fromhex(frame)
    assert x.header_length(data[:4]) == len(data) - 4
    assert x.decode(data[4:]) == message


def test_the_specification_shows_every_golden_frame() -> None:
    text = (pathlib.Path(__file__).parents[2] / "protocols" / "exchange.md").read_text("utf-8")
    shown = "".join(text.split())
    for frame in GOLDEN:
        assert frame in shown


def test_the_payload_is_what_the_header_declares() -> None:
    assert x.BlocksData(1, (5, x.Mark.MISSING, 7), True).payload == 12
    assert x.NodesData(1, (LEAF,), (9,), False).payload == 9
    assert x.Held(1, x.Holding.PART, 9).payload == 2
    assert x.Held(1, x.Holding.ALL, 9).payload == 0


def test_what_older_nodes_do_not_know_is_optional_and_bounded() -> None:
    held = {"t": 16, "i": 1, "h": 2, "n": 0, "z": 0}
    assert x.decode(msgpack.packb(held)) == x.Held(1, x.Holding.ALL)
    assert x.decode(msgpack.packb({"t": 1, "i": 1, "r": LEAF, "f": 1})) == x.Have(1, LEAF)
    row = [PEER, ADDRESS]
    assert len(x.decode(msgpack.packb({**held, "p": [row] * x.MAX_OTHERS})).others) == x.MAX_OTHERS  # type: ignore[union-attr]
    for wrong in [
        {"p": [row] * (x.MAX_OTHERS + 1)},
        {"p": [[PEER]]},
        {"p": [[PEER, *[ADDRESS] * (x.MAX_OTHERS_ADDRESSES + 1)]]},
        {"p": [[PEER, "text"]]},
        {"p": [[1, ADDRESS]]},
        {"p": [7]},
        {"p": {}},
        {"p": [[PEER, bytes(165)]]},
        {"q": -1},
        {"q": x.MAX_QUEUE + 1},
        {"q": True},
        {"q": "1"},
    ]:
        with pytest.raises(RemoteProtocolError):
            x.decode(msgpack.packb({**held, **wrong}))


def test_a_payload_is_split_without_copying() -> None:
    payload = memoryview(b"aaabb")
    first, missing, second = x.split(payload, (3, -1, 2))
    assert isinstance(first, memoryview)
    assert first.obj is payload.obj
    assert (bytes(first), missing, second) == (b"aaa", x.Mark.MISSING, b"bb")


@pytest.mark.parametrize("length", [0, x.MAX_HEADER + 1, 0xFFFF_FFFF])
def test_a_header_length_outside_its_bounds_is_refused_before_it_is_read(length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        x.header_length(length.to_bytes(4, "big"))


HOSTILE: list[object] = [
    None,
    [],
    {},
    {"t": 99, "i": 1},
    {"t": True, "i": 1},
    {"t": 1},
    {"t": 1, "i": -1, "r": LEAF},
    {"t": 1, "i": 1 << 32, "r": LEAF},
    {"t": 1, "i": 1, "r": "text"},
    {"t": 1, "i": 1, "r": b""},
    {"t": 1, "i": 1, "r": b"x" * 500},
    {"t": 2, "i": 1, "c": []},
    {"t": 3, "i": 1, "c": [LEAF] * 1025},
    {"t": 3, "i": 1, "c": LEAF},
    {"t": 3, "i": 1, "c": [1]},
    {"t": 5},
    {"t": 16, "i": 1, "h": 3, "n": 0, "z": 0},
    {"t": 16, "i": 1, "h": 1, "n": x.MAX_LEAVES + 1, "z": 0},
    {"t": 17, "i": 1, "c": [LEAF], "s": [], "e": True},
    {"t": 17, "i": 1, "c": [LEAF], "s": [-1], "e": True},
    {"t": 18, "i": 1, "s": [], "e": False},
    {"t": 18, "i": 1, "s": [-4], "e": True},
    {"t": 18, "i": 1, "s": [(2 << 20) + 1], "e": True},
    {"t": 18, "i": 1, "s": [1 << 20, 1 << 20, 1], "e": True},
    {"t": 18, "i": 1, "s": [1.0], "e": True},
    {"t": 18, "i": 1, "s": [1], "e": 1},
    {"t": 18, "i": 1, "s": [1] * 1025, "e": True},
    {"t": 19, "i": 1, "m": "x" * 201},
    {1: 2},
    {"t": msgpack.ExtType(1, b""), "i": 1},
]


@pytest.mark.parametrize("fields", HOSTILE, ids=repr)
def test_what_the_specification_does_not_allow_is_one_kind_of_error(fields: object) -> None:
    with pytest.raises(RemoteProtocolError):
        x.decode(msgpack.packb(fields))


@pytest.mark.parametrize(
    "junk", [b"", b"\xc1", b"\x91" * 2000, b"\x81", b"\xdf\xff\xff\xff\xff", b"\x80\x80", b"\xa1\xff"]
)
def test_bytes_that_are_no_header_are_the_same_error(junk: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        x.decode(junk)


def test_every_prefix_and_single_flipped_byte_of_golden_frames_is_read_or_refused() -> None:
    for frame in GOLDEN:
        header = bytes.fromhex(frame)[4:]
        variants = [header[:n] for n in range(len(header))]
        variants += [header[:n] + bytes([header[n] ^ 0xFF]) + header[n + 1 :] for n in range(len(header))]
        for variant in variants:
            try:
                x.decode(variant)
            except RemoteProtocolError:
                continue


def test_unknown_keys_are_ignored_so_that_the_protocol_can_grow() -> None:
    assert x.decode(msgpack.packb({"t": 4, "i": 3, "later": [1]})) == x.Cancel(3)


def test_the_largest_request_fits() -> None:
    request = x.Blocks(1, (b"\x01\x55\x13\x40" + b"d" * 64,) * x.MAX_CIDS)
    assert x.decode(x.encode(request)[4:]) == request
    with pytest.raises(LocalProtocolError):
        x.encode(x.Blocks(1, (b"x" * 160,) * 1024))
