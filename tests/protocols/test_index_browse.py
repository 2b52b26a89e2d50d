"""Browsing: the specification's bytes, and what a stranger may not ask."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from p2pshare_protocols import index_browse as browse
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.index_answer import AnswerReader
from p2pshare_protocols.index_messages import End, decode_answer
from tests.support_golden import golden


def test_the_bytes_of_the_specification() -> None:
    bytes_of = golden("index.md", "browse")
    assert browse.encode(browse.Browse()) == bytes_of["request"]
    assert browse.read(msgpack.unpackb(bytes_of["request"][4:])) == browse.Browse(0, 200)
    assert browse.encode_end(complete=False, after=7, newest=12) == bytes_of["end"]
    assert decode_answer(bytes_of["end"][4:], "") == End(False, 7, 12)
    reader = AnswerReader(None, 10, "")
    assert reader.receive_data(bytes_of["end"]) == []
    assert reader.end == End(False, 7, 12)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"after": 0},
        {"after": -1, "limit": 1},
        {"after": 2**53 + 1, "limit": 1},
        {"after": True, "limit": 1},
        {"after": 0, "limit": "1"},
        {"after": 0, "limit": 2**32 + 1},
    ],
)
def test_what_is_no_number_in_range_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        browse.read(message)


def test_more_rows_than_a_page_has_are_not_to_be_had() -> None:
    assert browse.read({"after": 3, "limit": 10**6}) == browse.Browse(3, 200)


@pytest.mark.parametrize("end", [{"after": -1}, {"after": "x"}, {"newest": 2**60}])
def test_an_end_with_nonsense_in_it_is_refused(end: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_answer(msgpack.packb({"end": True, "complete": True, **end}), "")
