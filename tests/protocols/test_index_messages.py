"""/p2pshare/index/1.0.0: the specification's bytes, and what a stranger may not send."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from p2pshare_protocols import index_messages as index
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.index_answer import AnswerReader
from p2pshare_protocols.index_messages import Row
from p2pshare_protocols.peerid import peer_id_from_ed25519, peer_id_to_bytes
from p2pshare_protocols.query import parse

SPEC = Path(__file__).parents[2] / "protocols" / "index.md"
PEER = peer_id_from_ed25519(bytes(32))
OTHER = peer_id_from_ed25519(bytes([1]) * 32)
TALK = Row(
    CID.of(RAW, b"hello"),
    "2026-raft.mp4",
    1288490188,
    "video",
    tags=("lecture",),
    created=1767225600.0,
    publisher=PEER,
)
NOTE = Row(
    CID.of(RAW, b"hello"),
    "a.txt",
    5,
    "text",
    root=CID.of(DAG_PB, b"root"),
    path=("notes", "a.txt"),
    created=1767225600.0,
)


def golden() -> list[bytes]:
    """The hex blocks of the specification, in their order: request, page, end."""
    blocks = re.findall(r"\n\n((?:    [0-9a-f]+\n)+)", SPEC.read_text())
    return [bytes.fromhex(re.sub(r"\s", "", block)) for block in blocks]


def packed(*rows: Row) -> list[bytes]:
    found = [index.encode_row(row) for row in rows]
    assert None not in found
    return [row for row in found if row is not None]


def frame(message: object) -> bytes:
    body: bytes = msgpack.packb(message)
    return len(body).to_bytes(4, "big") + body


def test_the_bytes_of_the_specification() -> None:
    request, page, end = golden()
    assert index.encode_request(parse("raft type:video"), 20) == request
    assert index.decode_request(request[4:]) == (parse("raft type:video"), 20)
    assert index.encode_pages(packed(TALK, NOTE)) == ([page], True)
    assert index.decode_answer(page[4:], PEER) == index.Page((TALK, NOTE))
    assert index.encode_end(complete=True) == end
    assert index.decode_answer(end[4:], PEER) == index.End(True)


def test_an_answer_is_read_however_the_stream_cuts_it() -> None:
    _, page, end = golden()
    reader = AnswerReader(parse("2026 OR text"), 10, PEER)
    rows = [row for byte in page + end for row in reader.receive_data(bytes([byte]))]
    assert rows == [TALK, NOTE]
    assert reader.end == index.End(True)
    assert reader.receive_data(b"") == []


def test_a_publisher_is_believed_only_of_itself() -> None:
    _, page, _ = golden()
    answer = index.decode_answer(page[4:], OTHER)
    assert isinstance(answer, index.Page)
    assert answer.rows[0].publisher == ""


def test_rows_that_do_not_match_are_dropped() -> None:
    reader = AnswerReader(parse("paxos"), 10, PEER)
    assert reader.receive_data(golden()[1]) == []
    assert reader.strays == 2


def test_what_a_stranger_wrote_is_cleaned() -> None:
    evil = replace(TALK, name="ra\x1b[31mft\u202e.mp4", title="x\ny", tags=("\x07",))
    answer = index.decode_answer(index.encode_pages(packed(evil))[0][0][4:], PEER)
    assert isinstance(answer, index.Page)
    row = answer.rows[0]
    assert (row.name, row.title, row.tags) == ("ra�[31mft.mp4", "x y", ("�",))


def test_a_row_that_is_too_big_loses_what_matters_least() -> None:
    big = replace(NOTE, name="n" * 255, path=("r", "n" * 255), title="t" * 512, tags=("g" * 100,) * 3, mime="m/m")
    [row] = packed(big)
    assert len(row) <= index.MAX_ROW
    answer = index.decode_answer(index.encode_pages([row])[0][0][4:], PEER)
    assert isinstance(answer, index.Page)
    assert answer.rows == (replace(big, title="", mime=""),)


def test_names_that_are_not_utf8_travel_by_cid_alone_or_not_at_all() -> None:
    [row] = packed(replace(NOTE, path=("caf\udce9", "a.txt")))
    answer = index.decode_answer(index.encode_pages([row])[0][0][4:], PEER)
    assert isinstance(answer, index.Page)
    assert (answer.rows[0].root, answer.rows[0].path) == (None, ())
    assert index.encode_row(replace(TALK, name="caf\udce9")) is None
    assert index.encode_row(replace(TALK, name="é" * 200)) is None


def test_an_answer_keeps_its_bounds() -> None:
    rows = packed(replace(TALK, title="t" * 500)) * 1000
    frames, everything = index.encode_pages(rows)
    assert not everything
    assert sum(map(len, frames)) + len(index.encode_end(complete=False)) <= index.MAX_ANSWER
    assert max(map(len, frames)) <= index.MAX_PAGE + 4
    reader = AnswerReader(parse("raft"), 1000, PEER)
    assert sum(len(reader.receive_data(one)) for one in frames) > 300
    small, everything = index.encode_pages(packed(TALK) * 450)
    assert everything
    assert len(small) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"cid": None},
        {"cid": b""},
        {"cid": b"\x01\x55\x12\x20short"},
        {"name": ""},
        {"name": "n" * 256},
        {"name": b"raft"},
        {"size": -1},
        {"size": 2**63},
        {"size": 1.5},
        {"size": True},
        {"type": None},
        {"root": b"x"},
        {"root": CID.of(DAG_PB, b"").binary},
        {"root": CID.of(DAG_PB, b"").binary, "path": ["..", "raft.mp4"]},
        {"root": CID.of(DAG_PB, b"").binary, "path": ["a/b", "raft.mp4"]},
        {"root": CID.of(DAG_PB, b"").binary, "path": ["a", "other.mp4"]},
        {"root": CID.of(DAG_PB, b"").binary, "path": ["a"] * 65 + ["raft.mp4"]},
        {"tags": ["x"] * 33},
        {"tags": [1]},
        {"title": "t" * 513},
        {"created": -1},
        {"publisher": "12D3"},
        {"publisher": b"\x00"},
        {"sources": -1},
    ],
)
def test_a_row_out_of_bounds_ends_the_answer(change: dict[str, Any]) -> None:
    good = {"cid": TALK.cid.binary, "name": "raft.mp4", "size": 1, "type": "video"}
    reader = AnswerReader(parse("raft"), 10, PEER)
    assert len(reader.receive_data(frame({"rows": [good | {"publisher": peer_id_to_bytes(PEER), "new": 1}]}))) == 1
    with pytest.raises(RemoteProtocolError):
        reader.receive_data(frame({"rows": [good | change]}))


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        (index.MAX_PAGE + 1).to_bytes(4, "big"),
        b"\0\0\0\x01\xc1",
        b"\0\0\0\x05" + b"\x91" * 5,
        (5000).to_bytes(4, "big") + b"\x91" * 5000,
        frame([]),
        frame({}),
        frame({"rows": []}),
        frame({"rows": [1]}),
        frame({"rows": [{}] * 201}),
        frame({"end": True}),
        frame({1: 2}),
        frame({"end": msgpack.ExtType(1, b"x")}),
        frame({"x": "y" * 2000}),
        frame({"end": True, "complete": True}) + b"\0",
        frame({"rows": [{"cid": TALK.cid.binary, "name": "raft", "size": 1, "type": "text"}] * 4}),
    ],
)
def test_an_answer_that_the_protocol_does_not_allow_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        AnswerReader(parse("raft"), 3, PEER).receive_data(data)


def test_an_answer_that_stops_or_never_stops_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="before its end"):
        AnswerReader(parse("raft"), 3, PEER).receive_data(b"")
    reader = AnswerReader(parse("raft"), 1000, PEER)
    stray = frame({"rows": [{"cid": TALK.cid.binary, "name": "x", "size": 1, "type": "text", "pad": "p" * 900}] * 60})
    with pytest.raises(RemoteProtocolError, match="longer than"):
        for _ in range(10):
            reader.receive_data(stray)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"query": {"words": ["raft"]}},
        {"limit": 1},
        {"query": {"words": ["raft"]}, "limit": 0},
        {"query": {"words": ["raft"]}, "limit": "9"},
        {"query": {"words": ["x" * 64] * 100}, "limit": 9},
        [],
    ],
)
def test_a_request_that_the_protocol_does_not_allow_is_refused(message: object) -> None:
    with pytest.raises(RemoteProtocolError):
        index.decode_request(msgpack.packb(message))


def test_the_longest_queries_that_can_be_typed_fit_a_request() -> None:
    for text in ("漢" * 125, " ".join(["한국어문서입니다"] * 12), " ".join(f"{i:031}" for i in range(32))):
        query = parse(text)
        assert index.decode_request(index.encode_request(query, 5)[4:]) == (query, 5)
    assert index.decode_request(index.encode_request(parse("raft"), 10**9)[4:])[1] == 1000
