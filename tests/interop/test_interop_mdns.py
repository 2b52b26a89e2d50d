"""A daemon of ours and js-libp2p on a LAN of their own, which is the loopback of a network namespace."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.interop.install import Installed
from tests.support_interop import js_node
from tests.support_namespace import namespace
from tests.support_nodes import RealNode, running

pytestmark = pytest.mark.slow
SERVICE = "_p2p._udp.local"


async def test_each_finds_the_other_by_multicast_dns(js: Installed, tmp_path: Path) -> None:
    """js-libp2p does not dial whom it discovers, so a connection is ours."""
    with trio.fail_after(90), namespace() as within:
        ours = RealNode(tmp_path / "node", ['network.rendezvous=["lan"]'], inside=within)
        with running(ours):
            async with js_node(js, "noise", inside=within, mdns=True) as theirs:
                await trio.to_thread.run_sync(ours.start)
                own, _, peer_id = (await trio.to_thread.run_sync(ours.address)).rpartition("/p2p/")
                assert await theirs.ask("discovered", peer=peer_id) == [own]
                assert await theirs.ask("connected", peer=peer_id) == "inbound"


async def test_the_records_of_ours_are_what_the_specification_says(js: Installed, tmp_path: Path) -> None:
    """PTR to a random name, whose SRV has the port and whose TXT has the addresses, asked for and read by js."""
    with trio.fail_after(90), namespace() as within:
        ours = RealNode(tmp_path / "node", ['network.rendezvous=["lan"]'], inside=within)
        with running(ours):
            async with js_node(js, "noise", inside=within) as theirs:
                await trio.to_thread.run_sync(ours.start)
                address = await trio.to_thread.run_sync(ours.address)
                asked = await theirs.ask("records", name=SERVICE, type="PTR")
                (pointer,) = (record for record in asked if record["type"] == "PTR")
                name = pointer["data"]
                label, _, rest = name.partition(".")
                assert (rest, label.isalnum()) == (SERVICE, True)
                assert 32 <= len(label) <= 63  # libp2p's discovery/mdns.md

                about = {
                    record["type"]: record["data"]
                    for kind in ("SRV", "TXT")
                    for record in await theirs.ask("records", name=name, type=kind)
                    if record["name"] == name
                }
                assert about["TXT"] == [f"dnsaddr={address}"]
                assert about["SRV"]["port"] == int(address.split("/")[4])
                assert about["SRV"]["target"].endswith(".local")
