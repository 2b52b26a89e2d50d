"""A node becomes a server of the DHT when others reach it, and a client again when they do not, while it runs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pshare.dht import open_dht
from p2pshare.dht.engine import OURS, Mode, role_for
from p2pshare.net.api import Reachability
from p2pshare.node.role import keep_role
from p2pshare.store import open_store
from tests.support_dht import Board, FakeNetwork


class Reached(FakeNetwork):
    """Tells when its reachability changes."""

    turned = trio.Event()

    def turn(self, state: Any) -> None:
        self.reach = Reachability(state, f"it is {state}")
        turned, self.turned = self.turned, trio.Event()
        turned.set()

    async def reachability_changed(self, known: Reachability) -> None:
        while self.reach == known:
            await self.turned.wait()


@pytest.mark.parametrize(
    ("mode", "state", "role"),
    [
        ("auto", "private", "server"),
        ("auto", "direct", "server"),
        ("auto", "unknown", "client"),
        ("auto", "no", "client"),
        ("server", "no", "server"),
        ("client", "direct", "client"),
    ],
)
async def test_the_role_follows_from_the_mode_and_from_reach(mode: Mode, state: Any, role: str) -> None:
    async with trio.open_nursery() as nursery:
        net = Board(nursery).node()
        net.reach = Reachability(state, "")
        assert role_for(net, mode)[0] == role


async def test_it_switches_while_it_runs_and_others_hear_of_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    notes: list[dict[str, Any]] = []
    with ExitStack() as stores:
        async with trio.open_nursery() as nursery:
            board = Board(nursery)
            net = Reached(board, 1, True)
            board.nodes[net.peer_id] = net
            other = board.node()
            here, there = (tmp_path / name for name in ("here", "there"))
            here.mkdir()
            there.mkdir()
            one, two = stores.enter_context(open_store(here)), stores.enter_context(open_store(there))
            net.turn("unknown")
            async with open_dht(net, one, allow_private=True) as dht, open_dht(other, two, allow_private=True) as far:
                nursery.start_soon(keep_role, net, dht, "auto", notes.append, lambda: None)
                await net.connect(other.addresses()[0])
                await wait_all_tasks_blocked()
                assert (dht.status()["mode"], dht.status()["why"]) == ("client", "it is unknown")
                assert (dht.status()["nodes"], far.status()["nodes"]) == (1, 0)
                net.turn("direct")
                await wait_all_tasks_blocked()
                assert OURS in net.handlers
                net.turn("no")
                await wait_all_tasks_blocked()
                assert OURS not in net.handlers
                assert [note["role"] for note in notes] == ["server", "client"]
                nursery.cancel_scope.cancel()
