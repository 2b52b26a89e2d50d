"""Three real nodes on loopback: what one shares the others find, and a stranger's bytes end nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pshare.errors import RemoteError, TimedOut
from p2pshare.index import CatalogueTier, IndexClient, IndexServer, PeerTier
from p2pshare.net.api import Network, Stream
from p2pshare.search import search
from p2pshare.store import Store, open_store
from p2pshare_protocols.index_messages import PROTOCOL, Row
from p2pshare_protocols.link import parse_link
from p2pshare_protocols.query import parse
from tests.support_net import identified, network
from tests.support_search import add_directory, add_file, collector


@asynccontextmanager
async def node(number: int, directory: Path) -> AsyncIterator[tuple[Network, Store]]:
    with open_store(directory / str(number)) as store:
        async with network(number) as net:
            IndexServer(net, store)
            yield net, store


async def test_what_one_node_shares_is_found_by_another(tmp_path: Path) -> None:
    async with (
        node(1, tmp_path) as (me, mine),
        node(2, tmp_path) as (two, theirs),
        node(3, tmp_path) as (three, others),
    ):
        document = add_file(theirs, unicodedata.normalize("NFD", "한국어문서.pdf"))
        talk = add_file(theirs, "2026-RaftTalk.mp4", tags=("lecture",))
        root = add_directory(theirs, "日本語のノート", ["章/テスト raft.txt"])
        add_file(others, "2026-RaftTalk.mp4")
        add_file(mine, "raft notes.txt")
        for other in (two, three):
            await identified(me, await me.connect(other.addresses()[0]))
        tiers = [CatalogueTier(mine, me.peer_id), PeerTier(me)]

        with trio.fail_after(10):
            events, emit = collector()
            done = await search(tiers, parse("raft"), emit, explain=True)
        last = {event["name"]: event for event in events}
        assert sorted(last) == ["2026-RaftTalk.mp4", "raft notes.txt", "テスト raft.txt"]
        assert events[0]["name"] == "raft notes.txt"
        assert last["2026-RaftTalk.mp4"]["sources"] == 2
        assert last["2026-RaftTalk.mp4"]["cid"] == str(talk)
        assert last["2026-RaftTalk.mp4"]["publisher"] in (two.peer_id, three.peer_id)
        link = parse_link(last["テスト raft.txt"]["link"])
        assert (link.cid, link.name, link.path) == (root, "日本語のノート", ("章", "テスト raft.txt"))
        assert (done["results"], done["nodes"], done["complete"]) == (3, 3, True)

        for words in ("문서", "국어 ext:pdf", "type:document"):
            events, emit = collector()
            await search(tiers, parse(words), emit)
            assert [event["cid"] for event in events] == [str(document)], words


async def test_a_stranger_that_sends_nonsense_is_refused_and_the_server_goes_on(tmp_path: Path) -> None:
    async with node(1, tmp_path) as (me, _), node(2, tmp_path) as (two, theirs):
        add_file(theirs, "raft.mp4")
        await me.connect(two.addresses()[0])
        for nonsense in (b"\xff" * 9000, b"\0\0\x10\0" + b"\x91" * 4096, b"\0\0\0\x01\xc1"):
            with trio.fail_after(5):
                stream = await me.open_stream(two.peer_id, [PROTOCOL])
                with pytest.raises(trio.BrokenResourceError):
                    await stream.send_all(nonsense)
                    await stream.receive_exactly(1)
        rows: list[Row] = []

        async def tell(row: Row) -> None:
            rows.append(row)

        assert await IndexClient(me).ask(two.peer_id, parse("raft"), tell, limit=5)
        assert [row.name for row in rows] == ["raft.mp4"]


async def test_peers_that_break_the_protocol_or_never_answer_are_told_apart(tmp_path: Path) -> None:
    async def silent(stream: Stream) -> None:
        await trio.sleep_forever()

    async def liar(stream: Stream) -> None:
        await stream.send_all(b"\xff" * 100)

    async def nothing(row: Row) -> None:
        raise AssertionError

    async with network(1) as me, network(2) as two, network(3) as three, network(4) as four:
        two.handle(PROTOCOL, silent)
        three.handle(PROTOCOL, liar)
        for other in (two, three, four):
            await me.connect(other.addresses()[0])
        client = IndexClient(me)
        with pytest.raises(TimedOut):
            await client.ask(two.peer_id, parse("raft"), nothing, limit=5, timeout=0.2)
        with pytest.raises(RemoteError, match="not allowed"):
            await client.ask(three.peer_id, parse("raft"), nothing, limit=5)
        with pytest.raises(RemoteError):
            await client.ask(four.peer_id, parse("raft"), nothing, limit=5)
