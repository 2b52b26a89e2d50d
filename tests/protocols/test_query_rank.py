"""Better results stand higher, and the reason can be read."""

from __future__ import annotations

from p2pshare_protocols.query import Query, Record, parse
from p2pshare_protocols.query_rank import rank

QUERY = parse("raft consensus")


def _ranked(query: Query, *records: Record) -> list[str]:
    return [rank(query, r).why for r in sorted(records, key=lambda r: rank(query, r).score, reverse=True)]


def test_name_over_tags_over_title_over_directory() -> None:
    assert _ranked(
        QUERY,
        Record("a.pdf", path="raft consensus"),
        Record("raft-talk.mp4", tags=("consensus",)),
        Record("a.pdf", title="raft consensus"),
        Record("a.pdf", tags=("raft", "consensus")),
        Record("notes on raft and consensus.pdf"),
        Record("Raft Consensus.pdf"),
    ) == [
        "exact name",
        "all words in name",
        "1 word in name, 1 word in tags",
        "all words in tags",
        "all words in title",
        "all words in directory",
    ]


def test_a_shorter_name_with_the_same_words_is_better() -> None:
    short, long = Record("raft consensus talk.mp4"), Record("raft consensus and what else we did last year.mp4")
    assert rank(QUERY, short).score > rank(QUERY, long).score


def test_scores_stay_between_0_and_1() -> None:
    assert rank(QUERY, Record("raft consensus")).score == 1.0
    assert rank(parse("type:video"), Record("x", type="video")) == (0.0, "fits the filters")
    assert rank(parse("video raft"), Record("raft.mp4", type="video")).why == "1 word in name, 1 word in type"
    assert rank(parse("paxos OR raft"), Record("my raft.mp4")).why == "word in name"
