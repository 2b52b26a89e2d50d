"""Our DHT and js-libp2p's on a network of their own: each finds what the other provides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pshare.dht import DHT, open_dht
from p2pshare.dht.engine import IPFS, OURS
from p2pshare.net.api import Network
from p2pshare.store import open_store
from p2pshare_protocols.cid import CID, RAW
from tests.interop.install import Installed
from tests.support_interop import js_node
from tests.support_net import network

pytestmark = pytest.mark.slow


@asynccontextmanager
async def our_node(directory: Path, number: int) -> AsyncIterator[tuple[Network, DHT]]:
    """A server of both networks that may use loopback."""
    home = directory / str(number)
    home.mkdir()
    with open_store(home) as store:
        async with (
            network(number) as net,
            open_dht(net, store, allow_private=True, networks=(OURS, IPFS), mode="server") as dht,
        ):
            yield net, dht


async def until_known(dht: DHT, count: int) -> None:
    while int(str(dht.status()["nodes"])) < count:
        await trio.sleep(0.02)


@pytest.mark.parametrize("security", ["noise", "tls"])
async def test_each_finds_what_the_other_provides(js: Installed, tmp_path: Path, security: str) -> None:
    """Who provides and who searches know only a node between them, of the provider's kind or the searcher's."""
    with trio.fail_after(90):
        async with (
            js_node(js, security, IPFS) as one,
            js_node(js, security, IPFS) as two,
            our_node(tmp_path, 1) as (net, dht),
        ):
            await one.ask("dial", address=two.addresses[0])
            await net.connect(two.addresses[0])
            await until_known(dht, 1)
            while await two.ask("table") < 2 or await one.ask("table") < 1:
                await trio.sleep(0.1)

            ours = CID.of(RAW, b"what we provide")
            receipt = await dht.provide(ours)
            assert receipt.stored >= 1
            found = await one.ask("providers", cid=str(ours), wanted=net.peer_id)
            assert found is not None

            theirs = CID.of(RAW, b"what js provides")
            await one.ask("provide", cid=str(theirs))
            async with dht.find_providers(theirs) as providers:
                seen = {provider.peer_id: provider.addresses async for provider in providers}
            assert one.peer_id in seen
            assert f"{seen[one.peer_id][0]}/p2p/{one.peer_id}" in one.addresses
