"""AutoNAT v2 with js-libp2p, at public addresses that are the loopback's of a network namespace."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.interop.install import Installed
from tests.support_interop import js_node
from tests.support_namespace import namespace
from tests.support_nodes import RealNode, running

pytestmark = pytest.mark.slow
OURS, THEIRS = "45.0.0.1", "46.0.0.1"  # not reserved for anything: both sides take them for public


async def test_each_shows_the_other_that_it_can_be_reached(js: Installed, tmp_path: Path) -> None:
    """Each is asked for an address that is not the one where it sees the asker, so each asks for data first."""
    with trio.fail_after(90), namespace(OURS, THEIRS) as within:
        there = f"/ip4/{THEIRS}/tcp/4001"
        ours = RealNode(tmp_path / "node", inside=within, listen=f"/ip4/{OURS}/tcp/4001")
        with running(ours):
            await trio.to_thread.run_sync(ours.start)
            async with js_node(js, "noise", inside=within, autonat=True, listen=there) as theirs:
                assert theirs.addresses == []  # none is told to anybody before it is verified
                await trio.to_thread.run_sync(lambda: ours.run("peers", "connect", f"{there}/p2p/{theirs.peer_id}"))
                assert (await theirs.ask("verified")).startswith(there)
                became = await trio.to_thread.run_sync(lambda: ours.hears("node", "role", role="server"))
                assert "have reached it from outside" in became["why"]
