"""Browsing between two real nodes: pages, what is not told, and how often a peer may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pshare.errors import RemoteError, TimedOut
from p2pshare.index import IndexClient, IndexServer
from p2pshare.index.browse import browse
from p2pshare.net.api import Network, Stream
from p2pshare.store import Store, open_store
from p2pshare_protocols.index_browse import Browse
from p2pshare_protocols.index_messages import PROTOCOL, Row
from tests.support_net import identified, network
from tests.support_search import add_directory, add_file, collector


@asynccontextmanager
async def two(directory: Path) -> AsyncIterator[tuple[Network, Network, Store]]:
    """(who asks, who answers, the answerer's store)"""
    with open_store(directory) as store:
        async with network(1) as me, network(2) as other:
            IndexServer(other, store)
            await identified(me, await me.connect(other.addresses()[0]))
            yield me, other, store


async def ignore(row: Row) -> None:
    await trio.lowlevel.checkpoint()


async def test_all_that_is_public_comes_in_pages_and_nothing_else(tmp_path: Path) -> None:
    async with two(tmp_path) as (me, other, store):
        for number in range(450):
            add_file(store, f"talk {number}.mp4")
        add_file(store, "private.mp4", index=False)
        add_file(store, "from somebody else.mp4", origin="fetched")
        add_file(store, "gone.mp4")
        gone = store.items.list()[-1]
        store.items.set_state(gone.id, "missing")
        add_directory(store, "notes \u202e\x07", ["a/raft.txt"], tags=("lecture", "evil\x1b[2J"))
        events, emit = collector()
        client = IndexClient(me)
        with trio.fail_after(20):
            done = await browse(client, other.peer_id, emit, limit=1000)
        assert [event["name"] for event in events[:-1]] == [f"talk {number}.mp4" for number in range(450)]
        last = events[-1]
        assert (last["kind"], last["publisher"]) == ("directory", other.peer_id)
        assert "\u202e" not in last["name"] + "".join(last["tags"])
        assert "\x1b" not in last["name"] + "".join(last["tags"])
        assert (done["results"], done["complete"]) == (451, True)

        some, emit = collector()
        part = await browse(client, other.peer_id, emit, limit=250)
        assert (part["results"], part["complete"]) == (250, False)
        rest, emit = collector()
        assert (await browse(client, other.peer_id, emit, limit=1000, after=part["after"]))["complete"]
        assert [one["cid"] for one in some + rest] == [one["cid"] for one in events]
        end = await client.browse(other.peer_id, Browse(done["after"], 0), ignore)
        assert (end.complete, end.newest) == (True, done["after"])
        add_file(store, "new.mp4")
        end = await client.browse(other.peer_id, Browse(done["after"], 0), ignore)
        assert not end.complete
        assert end.newest > done["after"]


async def test_a_peer_without_anything_is_complete_at_once(tmp_path: Path) -> None:
    async with two(tmp_path) as (me, other, _):
        done = await browse(IndexClient(me), other.peer_id, collector()[1], limit=10)
        assert (done["results"], done["complete"], done["after"]) == (0, True, 0)


async def test_who_asks_without_end_gets_no_answer_for_a_while(tmp_path: Path) -> None:
    async with two(tmp_path) as (me, other, store):
        add_file(store, "talk.mp4")
        client = IndexClient(me)
        answers = [(await client.browse(other.peer_id, Browse(), ignore)).after for _ in range(40)]
        assert answers[:10] == [1] * 10
        assert answers.count(0) >= 10
        with trio.fail_after(20):  # and `browse` waits for its turn
            assert (await browse(client, other.peer_id, collector()[1], limit=10))["results"] == 1


async def test_a_peer_that_never_answers_or_goes_in_circles_costs_its_time_only(tmp_path: Path) -> None:
    async with network(1) as me, network(2) as other:

        async def silent(stream: Stream) -> None:
            await trio.sleep_forever()

        other.handle(PROTOCOL, silent)
        await identified(me, await me.connect(other.addresses()[0]))
        with pytest.raises(TimedOut):
            await browse(IndexClient(me), other.peer_id, collector()[1], limit=10, timeout=0.3)

        async def circle(stream: Stream) -> None:
            from p2pshare_protocols.index_browse import encode_end

            async with stream:
                await stream.send_all(encode_end(complete=False, after=0, newest=5))

        other.handle(PROTOCOL, circle)
        with trio.fail_after(20), pytest.raises(RemoteError):
            await browse(IndexClient(me), other.peer_id, collector()[1], limit=10, timeout=5)
