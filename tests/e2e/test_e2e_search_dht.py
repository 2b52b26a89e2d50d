"""Search through the DHT with real daemons: found though its publisher is away, and gone once it is unshared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_nodes import RealNode, bootstrap, running

pytestmark = pytest.mark.slow


def test_a_name_is_found_while_its_publisher_is_away_and_has_a_source_when_it_is_back(tmp_path: Path) -> None:
    a, b, c, d = (RealNode(tmp_path / f"home-{name}") for name in "abcd")
    talk = tmp_path / "2026-ConsensusLecture.mp4"
    talk.write_bytes(b"a lecture" * 1000)
    with running(a, b, c, d):
        b.start()
        for node in (c, d):
            node.start(bootstrap(b.address()))
        a.start(bootstrap(b.address()))
        done = a.json("share", str(talk))[-1]
        assert done["postings"]["stored"] == done["postings"]["asked"] > 3
        link = done["link"]
        a.stop()

        rows = d.json("search", "consensus", "lecture")
        assert [row["link"] for row in rows if row["event"] == "result"] == [link]
        assert (rows[0]["tier"], rows[0]["sources"]) == ("dht", 0)
        assert rows[-1]["complete"] is True

        a.start(bootstrap(b.address()))
        assert d.json("search", "consensuslecture", "--sort", "name")[0]["sources"] == 1

        (tmp_path / "got").mkdir()
        d.json("fetch", link, "-o", str(tmp_path / "got" / talk.name))
        told = d.json("search", "consensus", "lecture", "--explain")
        mine = [row for row in told if row["event"] == "result"][-1]
        assert mine["publisher"] == rows[0]["publisher"]  # of whom something was fetched
        assert (mine["parts"]["publisher"], mine["parts"]["proof"], mine["tier"]) == (0.06, 0.05, "local")
        assert (told[-1]["complete"], told[-1]["missing"]) == (True, [])

        a.json("unshare", link)
        assert search_until_gone(c, "consensus") == []


def search_until_gone(node: RealNode, words: str) -> list[str]:
    """Asks as long as a withdrawal may take: it is told at once, and within 20 s at the latest."""
    for _ in range(20):
        events = node.json("search", words, "--timeout", "3", check=False)
        rows = [row["cid"] for row in events if row["event"] == "result"]
        if not rows:
            return rows
    return rows
