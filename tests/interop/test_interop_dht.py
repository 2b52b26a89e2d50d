"""Our DHT and js-libp2p's on a network of their own: each finds what the other provides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare.dht import DHT, open_dht
from p2pshare.dht.engine import IPFS, OURS
from p2pshare.net.api import Network
from p2pshare.store import open_store
from p2pshare_protocols import ipns, peerid
from p2pshare_protocols.cid import CID, RAW
from tests.interop.install import Installed
from tests.support_interop import JsNode, js_node
from tests.support_net import network
from tests.support_until import until

pytestmark = pytest.mark.slow


def public_key(seed: int) -> tuple[bytes, bytes]:
    """A key under /pk/, and libp2p's PublicKey message, which an Ed25519 name contains."""
    public = private_key(seed).public_key().public_bytes_raw()
    return b"/pk/" + peerid.peer_id_to_bytes(peerid.peer_id_from_ed25519(public)), b"\x08\x01\x12\x20" + public


def name(seed: int) -> tuple[bytes, bytes]:
    private = private_key(seed)
    peer_id = peerid.peer_id_from_ed25519(private.public_key().public_bytes_raw())
    said: dict[str, Any] = {"sequence": seed, "validity": b"2060-01-01T00:00:00Z", "ttl": 1}
    signature = private.sign(ipns.to_sign(b"/ipfs/x", **said))
    return b"/ipns/" + peerid.peer_id_to_bytes(peer_id), ipns.make(b"/ipfs/x", **said, signature=signature)


def private_key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


VALUES = {"pk": public_key, "ipns": name}


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
    await until(lambda: int(str(dht.status()["nodes"])) >= count)


@asynccontextmanager
async def private_network(js: Installed, directory: Path, security: str) -> AsyncIterator[tuple[JsNode, Network, DHT]]:
    """A js node and ours that know only a js node between them, each of the others in both tables."""
    async with (
        js_node(js, security, IPFS) as one,
        js_node(js, security, IPFS) as two,
        our_node(directory, 1) as (net, dht),
    ):
        await one.ask("dial", address=two.addresses[0])
        await net.connect(two.addresses[0])
        await until_known(dht, 1)
        while await two.ask("table") < 2 or await one.ask("table") < 1:
            await trio.sleep(0.1)
        yield one, net, dht


@pytest.mark.parametrize("what", ["pk", "ipns"])
async def test_each_gets_the_values_that_the_other_put(js: Installed, tmp_path: Path, what: str) -> None:
    with trio.fail_after(90):
        async with private_network(js, tmp_path, "noise") as (one, _, dht):
            for by, seed in (("us", 1), ("js", 2)):
                key, value = VALUES[what](seed)
                if by == "us":
                    assert (await dht.put_value(key, value)).stored >= 1
                    assert await one.ask("get", key=key.hex()) == value.hex()
                else:
                    await one.ask("put", key=key.hex(), value=value.hex())
                    assert await dht.get_value(key) == value


@pytest.mark.parametrize("security", ["noise", "tls"])
async def test_each_finds_what_the_other_provides(js: Installed, tmp_path: Path, security: str) -> None:
    """Who provides and who searches know only a node between them, of the provider's kind or the searcher's."""
    with trio.fail_after(90):
        async with private_network(js, tmp_path, security) as (one, net, dht):
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
