"""Values in the DHT: stored, read, corrected, and refused when they are not valid."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trio.testing import MockClock

from p2pshare.dht import DHT, Receipt, open_dht
from p2pshare.store import Store, open_store
from p2pshare.store.values import Values
from p2pshare_protocols import ipns, peerid
from p2pshare_protocols.errors import RemoteProtocolError
from tests.support_dht import Board

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = b"/ipns/" + peerid.peer_id_to_bytes(peerid.peer_id_from_ed25519(PRIVATE.public_key().public_bytes_raw()))


def record(sequence: int) -> bytes:
    said: dict[str, Any] = {"sequence": sequence, "validity": b"2060-01-01T00:00:00Z", "ttl": 1}
    return ipns.make(b"/ipfs/x", **said, signature=PRIVATE.sign(ipns.to_sign(b"/ipfs/x", **said)))


@asynccontextmanager
async def nodes(directory: Path, count: int) -> AsyncIterator[list[tuple[DHT, Store]]]:
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            board = Board(nursery)
            made: list[tuple[DHT, Store]] = []

            async def serve(store: Store, task_status: Any) -> None:
                net = board.node()
                async with open_dht(net, store, allow_private=True, rng=random.Random(1)) as dht:
                    if made:
                        await net.connect(next(iter(board.nodes.values())).addresses()[0])
                    task_status.started(dht)
                    await trio.sleep_forever()

            for number in range(count):
                home = directory / str(number)
                home.mkdir()
                store = stack.enter_context(open_store(home))
                made.append((await nursery.start(serve, store), store))
            await trio.sleep(8)
            yield made
            nursery.cancel_scope.cancel()


async def test_a_value_is_kept_by_all_and_the_newer_one_wins(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with nodes(tmp_path, 4) as made:
        assert await made[3][0].get_value(KEY) is None
        assert await made[1][0].put_value(KEY, record(1)) == Receipt(3, 3)
        assert await made[3][0].get_value(KEY) == record(1)
        made[2][1].values.put(KEY, record(5), 4e9, subnet="s")
        assert await made[3][0].get_value(KEY) == record(5)
        await trio.sleep(1)
        assert made[0][1].values.get(KEY, 0) == record(5)  # the reader told those that were behind
        await made[1][0].put_value(KEY, record(4))
        assert made[0][1].values.get(KEY, 0) == record(5)
        with pytest.raises(RemoteProtocolError):
            await made[1][0].put_value(KEY, record(6)[:-1])
        with pytest.raises(RemoteProtocolError):
            await made[1][0].put_value(b"/other/x", b"x")


def test_values_are_few_and_one_subnet_cannot_take_all_places(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        values = Values(store._db, most=4)
        assert values.put(b"old", b"1", 9, subnet="old")
        assert all(values.put(b"f%d" % number, b"1", 9, subnet="flood") for number in range(3))
        assert not values.put(b"f4", b"1", 9, subnet="flood")
        assert values.put(b"new", b"1", 9, subnet="new")
        assert [key for key in (b"old", b"f0", b"f1", b"f2", b"new") if values.get(key, 0)] == [
            b"old",
            b"f0",
            b"f1",
            b"new",
        ]
        assert not values.put(b"big", bytes(11_000), 9, subnet="x")
        assert values.get(b"old", 9) is None
        values.expire(9)
        assert values.count() == 0
