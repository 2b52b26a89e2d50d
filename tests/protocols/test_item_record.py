"""Item records, tombstones and the messages of postings: the specification's bytes, and what strangers may not send."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare_protocols import index_hot, item_record, postings_shard
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.item_record import MAX_RECORD, ItemRecord, Signed, Tombstone, term_key
from p2pshare_protocols.peerid import peer_id_from_ed25519
from p2pshare_protocols.postings_ask import Named
from p2pshare_protocols.query import parse
from tests.support_golden import golden

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
ALICE, BOB = (peer_id_from_ed25519(bytes([n]) * 32) for n in (1, 2))
TALK = ItemRecord(CID.of(RAW, b"hello"), "2026-raft.mp4", 1288490188, "video", 7, tags=("lecture",), created=1767225600)
NOTE = ItemRecord(CID.of(RAW, b"hello"), "a.txt", 5, "text", 8, root=CID.of(DAG_PB, b"root"), path=("notes", "a.txt"))


def test_the_specifications_bytes() -> None:
    expected = golden("index.md", "postings")
    talk = item_record.sign(TALK, KEY)
    by = wire.state(KEY, 1767225600, ALICE, BOB)
    made = {
        "item": talk.body,
        "item signature": talk.signature,
        "inside": item_record.encode(NOTE),
        "tombstone": item_record.encode(Tombstone(TALK.identity, 9)),
        "term key": term_key("raft"),
        "store": wire.encode(wire.Store(by, (wire.Entry(talk, ("raft", "mp4")),))),
        "heartbeat": wire.encode(wire.Heartbeat(wire.state(KEY, 1767225600, ALICE, BOB, bytes(32)))),
        "find": wire.encode(wire.Find("raft", parse("raft type:video"), 20)),
        "records": wire.encode(wire.Records((talk,))),
        "end": wire.encode(wire.FindEnd(True, {"raft": 1})),
        "shard": postings_shard.shards_of("raft", TALK.cid)[0].encode(),
        "kept": wire.encode(wire.Kept((1,), ("raft",))),
        "hot": index_hot.encode(index_hot.Hot("raft", parse("raft type:video"), 20, (talk,), True)),
        "end of a copy": wire.encode(wire.FindEnd(True, {}, hot=True)),
        "refused": wire.encode(wire.Kept((1,), (), (2,))),
        "records with a proof": wire.encode(wire.Records((talk,), (1767225600,))),
        "end with publishers": wire.encode(wire.FindEnd(True, {"raft": 250}, (Named(PUBLIC, 1767225600, True),))),
        "end of a full list": wire.encode(wire.FindEnd(True, {"raft": 1}, sharded=True)),
    }
    assert {name: value.hex() for name, value in made.items()} == {k: v.hex() for k, v in expected.items()}


@pytest.mark.parametrize("record", [TALK, NOTE, Tombstone(TALK.identity, 9), replace(TALK, name="한국어문서.pdf")])
def test_a_record_comes_back_as_it_was(record: ItemRecord | Tombstone) -> None:
    signed = item_record.sign(record, KEY)
    assert item_record.decode(signed.body) == record
    assert signed.holds()
    assert len(signed.body) + len(signed.publisher) + len(signed.signature) <= MAX_RECORD


def test_a_signature_of_another_or_of_other_bytes_does_not_hold() -> None:
    signed = item_record.sign(TALK, KEY)
    assert not replace(signed, publisher=bytes(32)).holds()
    assert not replace(signed, body=item_record.encode(replace(TALK, sequence=8))).holds()
    assert not replace(signed, signature=bytes(64)).holds()


def test_what_makes_a_record_too_long_is_left_out_and_a_name_that_is_too_long_is_refused() -> None:
    long = replace(TALK, title="t" * 400, tags=tuple(f"tag-{n:040}" for n in range(20)))
    back = item_record.decode(item_record.encode(long))
    assert isinstance(back, ItemRecord)
    assert (back.title, back.name) == ("", TALK.name)
    assert 0 < len(back.tags) < 20
    for name in ("n" * 400, "bad\udcff"):
        with pytest.raises(LocalProtocolError):
            item_record.encode(replace(TALK, name=name))


def _fields(**changes: object) -> bytes:
    fields = msgpack.unpackb(item_record.encode(NOTE))
    for at, value in changes.items():
        fields[int(at[1:])] = value
    return bytes(msgpack.packb(fields))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x90",
        b"\x91" * 400,
        bytes(msgpack.packb([3, 1])),
        bytes(msgpack.packb([2, b"short", 1])),
        _fields(_1=-1),
        _fields(_1=True),
        _fields(_2=b"no cid"),
        _fields(_3=""),
        _fields(_3=5),
        _fields(_4=2**64 - 1),
        _fields(_5=8),
        _fields(_6=1),
        _fields(_7=None),
        _fields(_8=["notes", ".."]),
        _fields(_8=["a/b", "c"]),
        _fields(_9=[1]),
        item_record.encode(NOTE) + b"\0",
        item_record.encode(NOTE).replace(b"\x08", b"\xcc\x08", 1),  # a number that is longer than it need be
        bytes(msgpack.packb([1, *["x" * 100] * 11])),
    ],
)
def test_a_strangers_record_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        item_record.decode(body)


def test_a_statement_holds_for_its_sender_and_its_storing_node_only() -> None:
    by = wire.state(KEY, 100, ALICE, BOB, bytes(32))
    assert by.holds(ALICE, BOB)
    assert not by.holds(BOB, ALICE)
    assert not by.holds(ALICE, ALICE)
    assert not replace(by, time=101).holds(ALICE, BOB)
    assert not replace(by, digest=bytes([1]) * 32).holds(ALICE, BOB)


def test_messages_come_back_as_they_were() -> None:
    talk = item_record.sign(TALK, KEY)
    by = wire.state(KEY, 100, ALICE, BOB)
    beat = wire.state(KEY, 100, ALICE, BOB, bytes(32))
    for request in (
        wire.Store(by, (wire.Entry(talk, ("raft", "mp4")),)),
        wire.Remove(by, (item_record.sign(Tombstone(TALK.identity, 9), KEY),)),
        wire.Heartbeat(beat),
        wire.Only(by, 63, (TALK.identity,)),
        wire.Find("raft", parse('raft "state machine" type:video'), 20),
    ):
        assert wire.read_request(wire.unpack(wire.encode(request)[4:])) == request
    for answer in (
        wire.Kept((1, 0)),
        wire.Digest(wire.buckets_of([("raft", TALK.identity, 7)])),
        wire.Records((talk,)),
        wire.FindEnd(False, {"raft": 3}),
        wire.FindEnd(False, {"raft": 3}, (Named(PUBLIC), Named(PUBLIC, 5, True))),
        wire.Records((talk, talk), (0, 1767225600)),
        wire.Kept((1, 0), ("raft",), (0, 3)),
    ):
        assert wire.read_answer(wire.unpack(wire.encode(answer)[4:])) == answer


def test_a_posting_after_the_first_takes_about_160_bytes() -> None:
    by = wire.state(KEY, 100, ALICE, BOB)
    entries = [
        wire.Entry(item_record.sign(replace(TALK, name=f"{n:04}-raft-talk.mp4", sequence=10**9), KEY), ("raft",))
        for n in range(100)
    ]
    assert len(wire.encode(wire.Store(by, tuple(entries)))) / 100 < 165


def test_batches_and_pages_keep_their_bounds_and_lose_nothing() -> None:
    by = wire.state(KEY, 100, ALICE, BOB)
    entries = [wire.Entry(Signed(PUBLIC, bytes(400), bytes(64)), ("raft",) * 1) for _ in range(900)]
    frames = list(wire.batches(by, entries))
    assert sum(len(frame.entries) for frame in frames) == 900
    assert all(len(wire.encode(frame)) <= wire.MAX_FRAME + 4 for frame in frames)
    found, everything = wire.pages((entry.signed, 1767225600) for entry in entries)
    assert not everything
    assert sum(len(wire.encode(page)) for page in found) <= 256 << 10
    assert wire.pages([]) == ([], True)


def test_a_digest_tells_what_differs() -> None:
    postings = [("raft", bytes([n]) * 16, 1) for n in range(100)]
    here = wire.buckets_of(postings)
    there = wire.buckets_of(reversed(postings[:-1]))
    assert [n for n in range(wire.BUCKETS) if here[n] != there[n]] == [99 >> 2]
    assert wire.digest_of(here) != wire.digest_of(there)


@pytest.mark.parametrize(
    "message",
    [
        {"op": "steal"},
        {"op": "store"},
        {"op": "store", "by": [b"", 1, b"", b""], "postings": []},
        {"op": "store", "by": [bytes(32), 1, bytes(64), b""], "postings": [[b"", bytes(64), []]]},
        {"op": "store", "by": [bytes(32), 1, bytes(64), b""], "postings": [[b"", bytes(64), ["a b"]]]},
        {"op": "store", "by": [bytes(32), 1, bytes(64), b""], "postings": [[b"", bytes(64), ["raft", "raft"]]]},
        {"op": "store", "by": [bytes(32), 1, bytes(64), b""], "postings": [[bytes(417), bytes(64), ["raft"]]]},
        {"op": "beat", "by": [bytes(32), 1, bytes(64), b""]},
        {"op": "only", "by": [bytes(32), 1, bytes(64), b""], "bucket": 64, "identities": []},
        {"op": "only", "by": [bytes(32), 1, bytes(64), b""], "bucket": 3, "identities": [b"short"]},
        {"op": "find", "term": "raft", "find": {"words": ["raft"], "strange": 1}, "limit": 3},
        {"op": "find", "term": "", "find": {"words": ["raft"]}, "limit": 3},
    ],
)
def test_a_strangers_request_that_is_none_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.read_request(message)


@pytest.mark.parametrize(
    "message", [{}, {"kept": [-1]}, {"digest": b"short"}, {"records": [[b""]]}, {"end": True, "complete": 1}]
)
def test_a_strangers_answer_that_is_none_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.read_answer(message)


def test_a_term_of_a_record_is_one_of_its_words() -> None:
    assert TALK.terms() == ["2026", "raft", "mp4", "lecture", "video"]
    assert NOTE.terms() == ["txt", "text", "notes"]
