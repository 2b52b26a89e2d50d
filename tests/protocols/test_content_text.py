"""Strangers' text made harmless."""

from __future__ import annotations

import pytest

from p2pshare_protocols.text import MAX_FILENAME, clean, safe_filename, unique_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain name.txt", "plain name.txt"),
        ("日本語 café", "日本語 café"),
        ("red\x1b[31m", "red\ufffd[31m"),
        ("two\nlines\ttab\r", "two lines tab "),
        ("bad\u202egnp.exe", "badgnp.exe"),
        ("lone\udcffsurrogate", "lone\ufffdsurrogate"),
        ("c1\x9b31m", "c1\ufffd31m"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        (b"raw \xff bytes", "raw \ufffd bytes"),
    ],
)
def test_clean(text: str | bytes, expected: str) -> None:
    assert clean(text) == expected


def test_clean_is_bounded() -> None:
    assert clean("x" * 1_000_000, limit=10) == "x" * 9 + "…"
    assert clean(b"\xff" * 1_000_000, limit=10) == "\ufffd" * 9 + "…"
    assert clean("x" * 10, limit=10) == "x" * 10


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "a.txt"),
        ("with space & 'quotes'.txt", "with space & 'quotes'.txt"),
        ("日本語.txt", "日本語.txt"),
        ("cafe\u0301", "cafe\u0301"),
        (".hidden", ".hidden"),
        ("", "_"),
        (".", "_"),
        ("..", "__"),
        (" ", "_"),
        ("\u200b", "_"),
        (".\u200b.", "__"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("a\\b", "a_b"),
        ("a\0b", "a_b"),
        ("a\nb\x1b", "a_b_"),
        (b"caf\xe9", "caf_"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("com1 .x", "_com1 .x"),
        ("console", "console"),
        ("x\udc80", "x___"),
    ],
)
def test_safe_filename(name: str | bytes, expected: str) -> None:
    assert safe_filename(name) == expected


def test_long_names_are_cut_and_stay_different() -> None:
    one, two = (safe_filename("é" * 400 + letter + ".tar") for letter in "ab")
    assert one != two
    for name in (one, two):
        assert name.endswith(".tar")
        assert len(name.encode()) <= MAX_FILENAME
    assert len(safe_filename("x." + "y" * 400).encode()) <= MAX_FILENAME
    assert safe_filename("x" * 255) == "x" * 255


def test_unique_names() -> None:
    names = ["a.txt", b"a.txt", "A.txt", "caf\u00e9", "cafe\u0301", "a (2).txt"]
    assert unique_names(names) == ["a.txt", "a (2).txt", "A.txt", "caf\u00e9", "cafe\u0301", "a (2) (2).txt"]
    assert unique_names(names, fold=True) == [
        "a.txt",
        "a (2).txt",
        "A (3).txt",
        "caf\u00e9",
        "cafe\u0301 (2)",
        "a (2) (2).txt",
    ]


def test_unique_names_of_many_equal_ones() -> None:
    names = unique_names(["x/"] * 3000)
    assert len(set(names)) == 3000
