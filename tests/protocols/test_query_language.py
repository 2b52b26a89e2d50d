"""The query language: what a person types, what it means, and what is said when it means nothing."""

from __future__ import annotations

import re
import time
import unicodedata

import pytest

from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.query import Query, QueryError, Record, parse, parse_age, parse_size

NOW = 1_800_000_000.0
PEER = "12D3KooW9pNAk8aiBuGVQtWRdbkLmo5qVL3e2h5UxbN2Nz9ttwiw"
TALK = Record(
    name="2026-RaftConsensus.mp4",
    path="talks/Distributed Systems",
    tags=("Lecture", "open course"),
    title="The Raft consensus algorithm",
    type="video",
    size=1 << 30,
    created=NOW - 3 * 86400,
    publisher=PEER,
    publisher_name="alice",
)


@pytest.mark.parametrize(
    "text",
    [
        "raft",
        "RAFT consensus",
        "raftconsensus",
        "RaftConsensus",
        '"consensus algorithm"',
        "“raft consensus”",
        "paxos OR raft",
        'paxos OR "consensus algorithm" 2026',
        "raft -paxos",
        'raft -"algorithm consensus"',
        "lecture systems mp4 video",
        "2026-raftconsensus.mp4",
        "type:video",
        "TYPE:videos",
        "type:audio,video",
        "type:audio OR type:video",
        "ext:.MP4",
        "size:>=1G",
        "size:1G..2G",
        "size:<1.1GB",
        "newer:7d",
        "newer:7d older:2d",
        "older:2030-01-01",
        "tag:lecture",
        "publisher:alice",
        f"publisher:{PEER}",
        "publisher:12D3KooW9pN",
        "raft type:video ext:mp4 size:>100M newer:1w tag:lecture",
        "raft!!!",
        "raft a",
    ],
)
def test_what_finds_the_talk(text: str) -> None:
    assert parse(text, now=NOW).matches(TALK)


@pytest.mark.parametrize(
    "text",
    [
        "paxos",
        "raft paxos",
        "raf",
        '"algorithm consensus"',
        '"systems 2026"',  # over the border of two fields
        "paxos OR zab",
        "raft -video",
        'raft -"consensus algorithm"',
        "type:audio",
        "ext:mp",
        "size:>1G",
        "size:..1000M",
        "newer:2d",
        "older:7d",
        "tag:open",
        "tag:lecture,missing",
        "publisher:bob",
        "publisher:12D",
    ],
)
def test_what_does_not_find_it(text: str) -> None:
    assert not parse(text, now=NOW).matches(TALK)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("문서", "한국어문서.pdf"),
        ("한국어문서", unicodedata.normalize("NFD", "한국어문서.pdf")),
        ("テスト", "日本語のテスト.txt"),
        ("ﾃｽﾄ", "日本語のテスト.txt"),
        ("深度学习", "基于深度学习的图像识别.pdf"),
        ("猫", "黒猫.jpg"),
        ("2026年", "2026年報告書.pdf"),
        ("café", unicodedata.normalize("NFD", "Café.pdf")),
        ("script", "JavaScript.pdf"),
        ("raft", "raft2026.pdf"),
        ("raft.thesis", "old.raft.thesis.pdf"),
        ("raft log", "raft.log.1"),
    ],
)
def test_names_of_every_script_are_found_by_a_part(text: str, name: str) -> None:
    assert parse(text).matches(Record(name))
    assert not parse(text).matches(Record("something else 別物 다른것.pdf"))


def test_the_pairs_of_a_compound_must_stand_in_their_order() -> None:
    assert not parse("한국어").matches(Record("국어한국.pdf"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \t ", "empty"),
        ("a !! ?", "two letters"),
        ('"raft', "not closed"),
        ('raft"', "not closed"),
        ("-draft", "leave out"),
        ("OR raft", "both sides"),
        ("raft OR", "both sides"),
        ("raft OR OR paxos", "both sides"),
        ("raft OR -paxos", "exclusion"),
        ("ext:pdf OR raft", "filter"),
        ("ext:pdf OR type:video", "same filter"),
        ("-ext:pdf raft", "excluded"),
        ("type:", "type:video"),
        ("type:film", "video, audio"),
        ("ext:a/b", "ext:pdf"),
        ("size:1G", "comparison"),
        ("size:>big", "not a size"),
        ("newer:soon", "not an age"),
        ("newer:2026-02-30", "not an age"),
        ("ra\x1b[2Jft", "control"),
        ("raft\0", "control"),
        ("raft \udcff", "UTF-8"),
        ("é" * 600, "at most 1024"),
        (" ".join(f"w{i}" for i in range(33)), "at most 32 words"),
        ("漢" * 200, "128 terms"),
    ],
)
def test_a_query_that_means_nothing_gets_a_sentence(text: str, says: str) -> None:
    with pytest.raises(QueryError, match=r"^[^\n]*\.$") as caught:
        parse(text, now=NOW)
    assert says in str(caught.value)


def test_a_megabyte_is_refused_without_being_read() -> None:
    begin = time.perf_counter()
    for text in ('"' * 1_000_000, "a:" * 500_000, "漢" * 1_000_000):
        with pytest.raises(QueryError, match="too long"):
            parse(text)
    assert time.perf_counter() - begin < 0.1


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"w{n}" for n in range(10_000)),
        "the " * 10_000,
        '"' * 1024,
        '"a b" ' * 170,
        "- " * 512,
        "x OR " * 200,
        "type:video " * 93,
        "a" * 1024,
        "OR" * 512,
        "\u202e" * 341,
    ],
)
def test_an_endless_query_is_refused_or_bounded(text: str) -> None:
    begin = time.process_time()
    said = ""
    try:
        query = parse(text, now=NOW)
    except QueryError as error:
        query, said = parse("raft"), str(error)
    assert time.process_time() - begin < 0.1
    assert not said or re.fullmatch(r"[^\n]{10,200}\.", said)
    assert len([*query.words, *query.phrases, *query.any_of, *query.excluded, *query.type]) <= 32


def test_words_that_are_everywhere_are_words() -> None:
    query = parse("the of and")
    assert query.words == ("the", "of", "and")
    assert query.matches(Record("The Art of War and Peace.epub"))


@pytest.mark.parametrize("mark", "\u202e\u202d\u2066\u2069\u200f\u200b\ufeff\u00ad")
def test_marks_that_reorder_or_hide_are_no_part_of_a_word(mark: str) -> None:
    assert parse(f"{mark}ra{mark}ft{mark}") == parse("raft")
    assert parse("raft").matches(Record(f"r{mark}aft{mark}.mp4"))
    with pytest.raises(QueryError, match="two letters"):
        parse(mark)
    for bad in (f"ext:{mark}pdf{mark}", f"publisher:{mark}abcd", f"type:{mark}x", f"size:{mark}1", f"newer:{mark}x"):
        with pytest.raises(QueryError) as caught:
            parse(bad, now=NOW)
        assert mark not in str(caught.value)


def test_flags_are_sugar_for_filters() -> None:
    flags = parse("raft", now=NOW, type="video", ext=[".pdf", "epub"], min_size="1M", max_size=20 << 20, newer="7d")
    assert flags == parse("raft type:video ext:pdf,epub size:1M..20M newer:7d", now=NOW)
    assert parse("", tag="lecture", publisher="alice") == parse("tag:lecture publisher:alice")
    with pytest.raises(QueryError, match="no type"):
        parse("raft", type="film")


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1k", 1024), ("1.5G", 1610612736), ("20MB", 20_000_000), ("2MiB", 2 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_ages_need_to_know_what_time_it_is() -> None:
    assert parse_age("12h", NOW) == NOW - 43200
    assert parse_age("2026-01-31", None) == 1769817600
    with pytest.raises(LocalProtocolError):
        parse("raft newer:7d")


FULL = (
    'raft "state machine" paxos OR "viewstamped replication" -draft -"old notes" 한국어 type:video '
    "ext:mp4 size:1M..2G newer:7d older:1d publisher:alice tag:lecture"
)


def test_a_query_travels_unchanged() -> None:
    query = parse(FULL, now=NOW)
    assert Query.from_wire(query.to_wire()) == query


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        {},
        {"words": []},
        {"excluded": ["raft"]},
        {"words": "raft"},
        {"words": ["two words"]},
        {"words": ["x" * 65]},
        {"words": [b"raft"]},
        {"words": ["raft"] * 33},
        {"words": ["raft"], "colour": ["red"]},
        {"words": ["raft"], 1: 2},
        {"phrases": [[]]},
        {"phrases": ["raft"]},
        {"phrases": [["raft"] * 129]},
        {"any_of": [[]]},
        {"any_of": [["raft  log"]]},
        {"any_of": [["a" * 9000]]},
        {"type": ["film"]},
        {"ext": [""]},
        {"ext": ["\x1b"]},
        {"ext": ["pdf"] * 17},
        {"min_size": -1},
        {"min_size": True},
        {"max_size": 2**63},
        {"newer": float("nan")},
        {"newer": float("inf")},
        {"older": "7d"},
    ],
)
def test_what_a_stranger_sends_as_a_query_is_checked(wire: object) -> None:
    with pytest.raises(RemoteProtocolError):
        Query.from_wire(wire)
