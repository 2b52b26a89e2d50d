"""dag-pb and UnixFS messages: the golden bytes of protocols/content.md, and bytes that are refused."""

from __future__ import annotations

import pytest

from p2pshare_protocols import dagpb, unixfs, varint
from p2pshare_protocols.cid import CID, DAG_PB, MAX_BLOCK, RAW
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.murmur3 import murmur3_x64_64

HASH = bytes.fromhex("0a240155122030173741229a7726607895d723c468d17868880205bcaebc057811bbc082d7d0")
LINK = b"\x12" + bytes([len(HASH)]) + HASH
DATA = bytes.fromhex("0a020801")
PB = CID.of(DAG_PB, b"")

GOLDEN = {
    "an empty directory": "0a020801",
    "a symlink to t.txt": "0a0908041205742e747874",
    "a file of two leaves": (
        "122c0a240155122030173741229a7726607895d723c468d17868880205bcaebc057811bbc082d7d012001880804012"
        "2a0a240155122018f5384d58bcb1bba0bcd9e6a6781d1a6ac2cc280c330ecbab6cb7931b721552120018010a0c0802"
        "18818040208080402001"
    ),
    "hello world with mode 0640 and a time": "0a1d0802120c68656c6c6f20776f726c640a180c38a00342060880e2cfaa06",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_blocks_come_back(name: str) -> None:
    block = bytes.fromhex(GOLDEN[name])
    links, data = dagpb.decode(block)
    assert dagpb.encode(links, data) == block
    unixfs.decode_node(PB, block)


def test_what_the_golden_blocks_say() -> None:
    file = unixfs.decode_node(PB, bytes.fromhex(GOLDEN["a file of two leaves"]))
    assert (file.kind, file.file_size, file.block_sizes) == ("file", 1048577, (1048576, 1))
    assert [link.name for link in file.links] == [b"", b""]
    hello = unixfs.decode_node(PB, bytes.fromhex(GOLDEN["hello world with mode 0640 and a time"]))
    assert (hello.data, hello.mode, hello.mtime) == (b"hello world\n", 0o640, unixfs.Mtime(1700000000))


@pytest.mark.parametrize("size", [0, 127, 4096, varint.MAX_VALUE])
@pytest.mark.parametrize("length", [0, 1, 76, 77, 78, 127, 128, 300])
def test_short_and_long_names_are_written_and_read_by_one_rule(length: int, size: int) -> None:
    cid, name = CID.of(RAW, b"x"), b"n" * length
    number = varint.encode
    body = b"\n" + number(36) + cid.binary + b"\x12" + number(length) + name + b"\x18" + number(size)
    block = b"\x12" + number(len(body)) + body
    assert dagpb.encode([dagpb.Link(cid, name, size)], None) == block
    assert dagpb.decode(block) == ([dagpb.Link(cid, name, size)], None)


@pytest.mark.parametrize("at", range(2, 49))
def test_the_short_way_for_a_spoilt_link_says_what_the_general_one_says(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = dagpb.encode([dagpb.Link(CID.of(RAW, b"x"), b"name", 4096)], None)
    spoilt = [block[:at], *(block[:at] + bytes((byte,)) + block[at + 1 :] for byte in range(256))]
    short = [said(one) for one in spoilt]
    monkeypatch.setattr(dagpb, "_decode_common", lambda block, at, stop: None)
    assert short == [said(one) for one in spoilt]


def said(block: bytes) -> object:
    try:
        return dagpb.decode(block)
    except RemoteProtocolError:
        return "refused"


def test_links_are_sorted_by_name() -> None:
    cid = CID.of(RAW, b"")
    block = dagpb.encode([dagpb.Link(cid, name, 0) for name in (b"b", b"a", b"B")], None)
    assert [link.name for link in dagpb.decode(block)[0]] == [b"B", b"a", b"b"]


def test_data_before_links_is_taken() -> None:
    assert dagpb.decode(DATA + LINK)[1] == b"\x08\x01"


@pytest.mark.parametrize(
    "block",
    [
        LINK + DATA + LINK,
        DATA + DATA,
        LINK[:-1],
        b"\x12\x00",
        b"\x12\x02\x12\x00",
        b"\x12\x02\x18\x00",
        b"\x1a\x00",
        b"\x08\x01",
        b"\x12" + bytes([len(HASH) + 2]) + b"\x18\x01" + HASH,
        b"\x12" + bytes([len(HASH) * 2]) + HASH + HASH,
        b"\x12" + bytes([len(HASH) + 2]) + HASH + b"\x20\x01",
        b"\x12" + bytes([len(HASH) + 1]) + HASH + b"\x18" + b"\x01",
        bytes(MAX_BLOCK + 1),
    ],
)
def test_blocks_that_are_refused(block: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        dagpb.decode(block)


@pytest.mark.parametrize(
    "data",
    [
        "",  # no type
        "0803",  # metadata
        "0806",
        "08021801",  # says one byte, has none
        "080212016118022001",  # a block size without a link
        "08012001",  # a directory with block sizes
        "0804",  # a symlink to nowhere
        "0804120100",  # a NUL in the target
        "0805",  # a shard without hash function
        "080528222807",  # twice
        "08051200282230ff01",  # a fan-out that is no power of two
        "08051201012822308002",  # a bitfield without links
        "0802080238",  # twice and cut off
        "0802120a61",  # cut off
        "08024a00",  # a field that does not exist
        "0801420108",  # a time without seconds
        "08014206080115ffffff",
        "080142070801" + "15ffffffff",  # nanoseconds over a second
        "0801388080808010",  # a mode of 33 bits
    ],
)
def test_unixfs_messages_that_are_refused(data: str) -> None:
    block = dagpb.encode((), bytes.fromhex(data))
    with pytest.raises(RemoteProtocolError):
        unixfs.decode_node(PB, block)


def test_a_node_needs_unixfs_data() -> None:
    with pytest.raises(RemoteProtocolError):
        unixfs.decode_node(PB, b"")


def test_times_before_1970_and_nanoseconds() -> None:
    for when in (unixfs.Mtime(-1), unixfs.Mtime(-(2**40), 5), unixfs.Mtime(0), unixfs.Mtime(2**40, 999_999_999)):
        block = dagpb.encode((), unixfs.encode_data("directory", mtime=when))
        assert unixfs.decode_node(PB, block).mtime == when


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # The first 64 bits of MurmurHash3_x64_128, seed 0 (values of the reference implementation).
        (b"", 0x0000000000000000),
        (b"hello", 0xCBD8A7B341BD9B02),
        (b"hello, world", 0x342FAC623A5EBC8E),
        (b"19 Jan 2038 at 3:14:07 AM", 0xB89E5988B737AFFC),
        (b"The quick brown fox jumps over the lazy dog.", 0xCD99481F9EE902C9),
    ],
)
def test_murmur3(data: bytes, expected: int) -> None:
    assert murmur3_x64_64(data) == expected


@pytest.mark.parametrize("name", [None, b"", b"name", b"n" * 200])
@pytest.mark.parametrize("hash", ["sha256", "identity"])
def test_a_block_that_may_have_nodes_is_told_without_parsing_it(name: bytes | None, hash: str) -> None:
    leaf, node = CID.of(RAW, b"leaf", hash), CID.of(DAG_PB, b"node", hash)
    old = CID.parse("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n")
    assert not dagpb.may_have_nodes(dagpb.encode([dagpb.Link(leaf, name, 4)], DATA))
    for cid in (node, old):
        assert dagpb.may_have_nodes(dagpb.encode([dagpb.Link(leaf, name, 4), dagpb.Link(cid, name, 4)], DATA))
