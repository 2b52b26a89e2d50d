"""docs/search.md does not promise what the query language does not do."""

from __future__ import annotations

import re
from pathlib import Path

from p2pshare_protocols.query import TYPES, Record, parse

GUIDE = (Path(__file__).parents[2] / "docs" / "search.md").read_text()


def test_every_query_in_the_tables_is_understood() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", GUIDE, re.MULTILINE)
    queries = [cell.strip("`") for cell in rows]
    assert len(queries) >= 13
    for query in queries:
        parse(query, now=1.8e9)
    filters = re.findall(r"`((?:type|ext|size|newer|older|publisher|tag):[^`]+)`", GUIDE)
    for query in filters:
        parse(query, now=1.8e9)


def test_names_are_found_by_what_the_guide_says() -> None:
    names = re.findall(r"`([^`]+)` (?:is found )?by ((?:`[^`]+`(?:, )?)+)", GUIDE)
    assert len(names) == 6
    for name, words in names:
        for word in re.findall(r"`([^`]+)`", words):
            assert parse(word).matches(Record(name)), (name, word)


def test_all_types_are_listed() -> None:
    assert all(f"`{one}`" in GUIDE for one in TYPES)
