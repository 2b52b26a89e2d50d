"""Fetching a range of a file's bytes: exactly these, whatever blocks they lie in."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from p2pshare.errors import UsageError
from p2pshare.exchange.selection import cut, parse_span
from p2pshare_protocols.dagplan import Entry, Inline
from tests.support_exchange import Job, World, node

MIB = 1 << 20
DATA = random.Random(3).randbytes(3 * MIB + 17)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-0", DATA[:1]),
        ("5-99", DATA[5:100]),
        (f"{MIB}-{2 * MIB - 1}", DATA[MIB : 2 * MIB]),
        (f"{MIB - 1}-{2 * MIB}", DATA[MIB - 1 : 2 * MIB + 1]),
        (f"{3 * MIB + 5}-", DATA[3 * MIB + 5 :]),
        ("7-999999999999", DATA[7:]),
    ],
)
async def test_a_range_is_fetched_and_nothing_else(
    tmp_path: Path, nursery: trio.Nursery, text: str, expected: bytes
) -> None:
    world = World(nursery)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(world.node("one"), tmp_path / "one"))
        two = await stack.enter_async_context(node(world.node("two"), tmp_path / "two"))
        (tmp_path / "file").write_bytes(DATA)
        cid = await one.share(tmp_path / "file")
        job = Job()
        done = await two.fetch(cid, tmp_path / "out", peer=one.network.addresses(), range=text, job=job)
        assert (tmp_path / "out").read_bytes() == expected
        assert done["size"] == len(expected)
        assert job.seen[-1] == (len(expected), len(expected))
        assert two.store.items.count() == 0, "a part of a file is no item to serve on"
        with pytest.raises(UsageError, match="bytes"):
            await two.fetch(cid, tmp_path / "no", peer=one.network.addresses(), range=f"{len(DATA)}-")


@pytest.mark.parametrize("text", ["", "5", "-5", "a-b", "9-3", "1-2-3", "٣-٤", "1-" + "9" * 19])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UsageError):
        parse_span(text)


def test_bytes_in_inner_nodes_are_cut_too() -> None:
    entry = Entry((), "file", 10, segments=[Inline(0, b"01234"), Inline(5, b"56789")])
    [part] = cut([entry], (3, 6))
    assert (part.size, part.segments) == (4, [Inline(0, b"34"), Inline(2, b"56")])


def test_a_directory_has_no_range() -> None:
    with pytest.raises(UsageError, match="one file"):
        cut([Entry((), "directory"), Entry((b"x",), "file", 1)], (0, None))
