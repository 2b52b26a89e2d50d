"""Names of every script become terms, and what a person types finds them."""

from __future__ import annotations

import random
import sys
import unicodedata

import pytest

from p2pshare_protocols import terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-raft.mp4", ["2026", "raft", "mp4"]),
        ("notes.on_raft+paxos (final).tar.gz", ["notes", "on", "raft", "paxos", "final", "tar", "gz"]),
        ("JavaScript", ["javascript", "java", "script"]),
        ("HTTPServerGuide", ["httpserverguide", "http", "server", "guide"]),
        ("raft2026", ["raft2026", "raft", "2026"]),
        ("mp4", ["mp4"]),
        ("1080p x264", ["1080p", "1080", "x264", "264"]),
        ("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79", ["qmywapjzv5czsna625s3xf2nemtygpphdwez79"]),
        ("don't l’été", ["dont", "don", "lété", "été"]),
        ("Straße ΣΊΣΥΦΟΣ ﬁle", ["strasse", "σίσυφοσ", "file"]),
        ("한국어문서.pdf", ["한국", "국어", "어문", "문서", "pdf"]),
        ("日本語のテスト", ["日本", "本語", "語の", "のテ", "テス", "スト"]),
        ("基于深度学习", ["基于", "于深", "深度", "度学", "学习"]),
        ("ｶﾀｶﾅ ＡＢＣ", ["カタ", "タカ", "カナ", "abc"]),
        ("猫.jpg", ["猫", "jpg"]),
        ("हिन्दी", ["हिन्दी"]),
        ("so\u00adft zero\u200bwidth", ["soft", "zerowidth"]),
        ("a b C++", []),
        ("", []),
        ("…!?/", []),
    ],
)
def test_a_name_is_cut_into_terms(text: str, expected: list[str]) -> None:
    assert terms.cut(text) == expected


@pytest.mark.parametrize("name", ["Café.pdf", "한국어문서.pdf", "がぎぐ ピクチャ", "Ångström Żółć"])
def test_decomposed_names_equal_composed_ones(name: str) -> None:
    decomposed = unicodedata.normalize("NFD", name)
    assert decomposed != unicodedata.normalize("NFC", name)
    assert terms.cut(decomposed) == terms.cut(unicodedata.normalize("NFC", name))
    assert terms.index_text(decomposed) == terms.index_text(name)


def test_the_same_term_comes_once_and_the_limit_holds() -> None:
    assert terms.cut("raft Raft RAFT paxos") == ["raft", "paxos"]
    assert terms.cut("one two three four", limit=2) == ["one", "two"]
    assert len(terms.cut(" ".join(f"word{i}" for i in range(200)), limit=terms.MAX_TERMS_PER_ITEM)) == 32


def test_a_long_word_is_cut_at_64_characters_on_both_sides_alike() -> None:
    digest = "ab" * 64
    assert terms.cut(digest) == ["ab" * 32] == terms.phrase(digest)


def test_only_the_beginning_of_a_huge_text_is_looked_at() -> None:
    assert terms.cut("x" * 4094 + " y" + " late" * 1_000_000) == ["x" * 64]


def test_broken_characters_separate_and_never_raise() -> None:
    assert terms.cut("caf\udce9 raft\0log") == ["caf", "raft", "log"]


def test_typed_case_does_not_matter_so_a_query_is_not_split_at_camel_case() -> None:
    assert terms.phrase("JavaScript") == terms.phrase("javascript") == ["javascript"]


def test_an_index_keeps_neighbours_and_holds_single_characters() -> None:
    assert terms.sequence("raft2026 raft talk") == ["raft2026", "raft", "talk", "0", "raft", "2026", "raft", "talk"]
    assert terms.index_text("黒猫 log") == "黒猫 log 0 黒 猫"


def test_every_character_gives_terms_that_the_network_takes() -> None:
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        for term in terms.cut(char + char):
            assert terms.is_term(term), hex(code)
            assert terms.normalise(term) == term, hex(code)


@pytest.mark.parametrize("text", ["", "x" * 65, "two words", "nul\0", "tab\t", "zero\u200bwidth", "\udcff"])
def test_what_is_no_term_is_told(text: str) -> None:
    assert not terms.is_term(text)


def test_the_fast_way_for_ascii_cuts_like_the_general_one() -> None:
    dice = random.Random(8)
    for _ in range(3000):
        text = "".join(dice.choice("aAbBzZ019'_-. \0") for _ in range(dice.randrange(14)))
        general = terms.cut(text + " é")
        assert terms.cut(text) == [term for term in general if term != "é"], text
        assert terms.sequence(text) == terms.sequence(text + " é"), text  # one letter is no term
