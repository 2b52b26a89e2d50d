"""What is findable of a shared directory, and what the docs promise of manners: who sees what, how much is answered."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from p2pshare.errors import RemoteError
from p2pshare.index import CatalogueTier, IndexClient, IndexServer, PeerTier
from p2pshare.search import search
from p2pshare.store import open_store
from p2pshare_protocols import config_schema
from p2pshare_protocols.index_messages import MAX_ANSWER, MAX_REQUEST, PROTOCOL, Row
from p2pshare_protocols.link import parse_link
from p2pshare_protocols.query import parse
from tests.support_net import identified, network
from tests.support_postings import Node, nodes
from tests.support_search import add_directory, add_file, collector
from tests.support_until import until


def placed(node: Node) -> bool:
    return not node.store.own_postings.unpublished(1) and not node.store.own_postings.counts()["waiting"]


async def test_files_inside_are_found_by_their_names_and_directories_up_to_a_cap(tmp_path: Path) -> None:
    paths = [f"week {number % 10}/raft lecture{number}.mp4" for number in range(150)]
    async with nodes(2, tmp_path) as (a, b):  # which publish 100 files of a share
        root = add_directory(a.store, "Distributed systems 2026", paths, tags=("course",))
        item = a.store.items.by_cid(root)
        assert item is not None
        with trio.fail_after(30):
            await a.placer.post(item)
            await until(lambda: placed(a))
        assert a.store.own_postings.counts()["records"] == 1 + 100
        [row], _ = await b.search('"distributed systems" week lecture42')
        link = parse_link(row["link"])
        assert (link.cid, link.name, link.path) == (root, "Distributed systems 2026", ("week 2", "raft lecture42.mp4"))
        assert (row["name"], row["type"]) == ("raft lecture42.mp4", "video")
        assert [row["name"] for row in (await b.search("systems type:video lecture99"))[0]] == ["raft lecture99.mp4"]
        assert (await b.search("lecture100"))[0] == []  # beyond the cap
        assert [row["name"] for row in (await b.search("course"))[0]] == ["Distributed systems 2026"]
        assert [row["name"] for row in (await a.search("lecture149"))[0]] == ["raft lecture149.mp4"]  # here all are


def test_the_cap_is_ten_thousand_files_unless_one_says_otherwise() -> None:
    assert config_schema.defaults()["index.files_inside"] == 10_000


async def test_a_local_search_asks_nobody_and_a_search_asks_who_is_connected_once(tmp_path: Path) -> None:
    asked: list[str] = []
    async with network(1) as me, network(2) as other:
        with open_store(tmp_path / "1") as mine, open_store(tmp_path / "2") as theirs:
            add_file(theirs, "raft.mp4")
            server = IndexServer(other, theirs)

            async def counted(stream: object) -> None:
                asked.append(me.peer_id)
                await server.serve(stream)  # type: ignore[arg-type]

            other.handle(PROTOCOL, counted)
            await identified(me, await me.connect(other.addresses()[0]))
            tiers = [CatalogueTier(mine, me.peer_id), PeerTier(me)]
            await search(tiers, parse("raft"), collector()[1], local=True)
            assert asked == []
            await search(tiers, parse("raft"), collector()[1])
            assert asked == [me.peer_id]


async def test_an_answer_is_bounded_and_a_request_that_is_too_long_gets_none(tmp_path: Path) -> None:
    async with network(1) as me, network(2) as other:
        with open_store(tmp_path) as store:
            for number in range(1200):
                add_file(store, f"raft {number} {'x' * 180}.mp4", tags=("t" * 100, "u" * 100))
            IndexServer(other, store)
            peer = await me.connect(other.addresses()[0])
            await identified(me, peer)
            async with await me.open_stream(peer, [PROTOCOL]) as stream:
                await stream.send_all((MAX_REQUEST + 1).to_bytes(4, "big") + bytes(MAX_REQUEST + 1))
                with pytest.raises((trio.BrokenResourceError, RemoteError)):
                    await stream.receive_exactly(1)
            rows: list[Row] = []

            async def take(row: Row) -> None:
                await trio.lowlevel.checkpoint()
                rows.append(row)

            complete = await IndexClient(me).ask(peer, parse("raft"), take, limit=1000)
            assert not complete
            assert 100 < len(rows) < MAX_ANSWER / 200
