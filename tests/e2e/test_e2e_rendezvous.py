"""Two daemons that know nobody but a node of the public DHT (here one on loopback) meet there, and one fetches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support_nodes import RealNode, bootstrap, running

pytestmark = pytest.mark.slow

PUBLIC = 'dht.networks=["/ipfs/kad/1.0.0"]'


def meets_at(address: str) -> tuple[str, str]:
    return 'network.rendezvous=["ipfs"]', f"network.ipfs_bootstrap={json.dumps([address])}"


def test_nodes_meet_in_the_public_dht(tmp_path: Path) -> None:
    public = [RealNode(tmp_path / f"public-{n}", [PUBLIC]) for n in range(3)]
    a, b, c = (RealNode(tmp_path / name) for name in "abc")
    notes = tmp_path / "meeting-notes.txt"
    notes.write_text("The first peer is found with no server of ours.\n")
    with running(*public, a, b, c):
        public[0].start()
        for node in public[1:]:
            node.start(bootstrap(public[0].address()))
        a.start(*meets_at(public[0].address()))
        assert a.hears("node", "visited")["listed"]
        shared = a.json("share", str(notes))[-1]
        b.start(*meets_at(public[1].address()))
        assert b.hears("node", "visited")["known"] == 1
        done = b.json("fetch", shared["link"], "-o", str(tmp_path / "fetched.txt"), "--timeout", "60")[-1]
        assert done["event"] == "done"
        assert (tmp_path / "fetched.txt").read_bytes() == notes.read_bytes()

        c.start()  # "ipfs" is left out: it meets nobody, and nobody hears of it
        status = c.json("status")[0]
        assert (status["peers"], status["dht"]["meeting"]) == (0, None)
