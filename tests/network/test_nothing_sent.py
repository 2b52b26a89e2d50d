"""A way of finding the first peer that is off sends nothing: a daemon whose only way out is a wire to nobody."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pshare.dht.engine import OURS
from p2pshare.store import open_store
from tests.support_namespace import BEYOND, WIRE, Wire, wired
from tests.support_net import key_pair
from tests.support_nodes import RealNode, running

pytestmark = pytest.mark.slow
PEER = key_pair(7).peer_id
THERE = f"/ip4/{BEYOND}/tcp/4001"
IPV4 = 0x0800


def meets(node: RealNode) -> None:
    """Before, the peer was connected."""
    node.home.mkdir(mode=0o700, exist_ok=True)
    with open_store(node.home / "catalogue") as store:
        store.peers.remember(PEER, [THERE], time.time())


def served(node: RealNode) -> None:
    """Before, the peer stood in the table of the DHT."""
    node.home.mkdir(mode=0o700, exist_ok=True)
    with open_store(node.home / "catalogue") as store:
        store.set_meta(f"dht.table{OURS}", json.dumps([[PEER, [THERE]]]))


WAYS: dict[str, tuple[str, Callable[[RealNode], None] | None, str]] = {
    # what turns it on, what came before, where it sends to
    "lan": ('network.rendezvous=["lan"]', None, "224.0.0.251"),
    "bootstrap": (f"network.bootstrap={json.dumps([f'{THERE}/p2p/{PEER}'])}", None, BEYOND),
    "remembered": ("network.remembered=true", meets, BEYOND),
    "table": ("network.remembered=true", served, BEYOND),
}
OFF = ("network.rendezvous=[]", "network.bootstrap=[]", "network.remembered=false")


def lives(node: RealNode, *settings: str) -> None:
    """Starts it, shares a file and searches: whatever a node does at its beginning it has done then."""
    node.start(*settings)
    talk = node.home.parent / "raft-talk.txt"
    talk.write_text("a talk\n")
    assert node.json("share", str(talk))[-1]["event"] == "done"
    node.json("search", "paxos", check=False)  # ends with the code for nothing found


def sent_to(wire: Wire, address: str) -> None:
    """Waits for a packet to `address`."""
    there = ipaddress.ip_address(address).packed
    while True:
        kind, packet = wire.next()
        if kind == IPV4 and packet[16:20] == there:
            return


@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_is_on_is_seen_on_the_wire(way: str, tmp_path: Path) -> None:
    """So that silence below means something."""
    setting, before, address = WAYS[way]
    with wired() as (within, wire):
        node = RealNode(tmp_path / "node", OFF, inside=within, listen=f"/ip4/{WIRE}/tcp/4001")
        with running(node):
            if before is not None:
                before(node)
            node.start(setting)
            sent_to(wire, address)


def test_with_all_ways_off_a_daemon_sends_nothing(tmp_path: Path) -> None:
    with wired() as (within, wire):
        node = RealNode(tmp_path / "node", OFF, inside=within, listen=f"/ip4/{WIRE}/tcp/4001")
        with running(node):
            meets(node)
            served(node)
            assert wire.so_far() == []
            lives(node)
            assert wire.so_far() == []
        assert wire.so_far() == []


@pytest.mark.parametrize("way", ["lan", "bootstrap", "remembered"])
def test_one_way_alone_sends_nowhere_else(way: str, tmp_path: Path) -> None:
    setting, _, address = WAYS[way]
    with wired() as (within, wire):
        node = RealNode(tmp_path / "node", OFF, inside=within, listen=f"/ip4/{WIRE}/tcp/4001")
        with running(node):
            meets(node)
            served(node)
            lives(node, setting)
            allowed = {address, "224.0.0.22"} if way == "lan" else {address}  # it joins the group by IGMP
            sent = {str(ipaddress.ip_address(packet[16:20])) for kind, packet in wire.so_far() if kind == IPV4}
            assert address in sent
            assert sent <= allowed
