"""What the rest of the daemon sees of the DHT."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal

import trio

from p2pshare_protocols.cid import CID


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that says it holds a CID, with the addresses it gave (multiaddrs without /p2p)."""

    peer_id: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """How many nodes were asked to keep a provider record, and how many gave it back when read again."""

    stored: int
    asked: int


class DHT(ABC):
    @abstractmethod
    async def provide(self, cid: CID) -> Receipt: ...

    @abstractmethod
    def find_providers(self, cid: CID) -> AbstractAsyncContextManager[AsyncIterator[Provider]]:
        """Providers as they are found, each peer once, ourselves left out; leaving the context ends the search."""

    @abstractmethod
    async def find_peer(self, peer_id: str) -> tuple[str, ...]:
        """Addresses of a peer; empty when nobody knows it."""

    async def closest(self, key: bytes, count: int) -> list[Provider]:
        """Servers of our own network that are nearest to `key` (hashed, as a record's is), the nearest first.

        At most `count` of the key's region, which has 20 and, where it is crowded, up to 46; empty when no node is
        known. Ourselves are left out.
        """
        return []

    def become(self, role: Literal["client", "server"], why: str) -> None:  # noqa: B027
        """Serve others from now on, or stop it; they are told. `why` is half a sentence for `status`."""

    async def joined(self) -> None:
        """Returns once a node of the DHT has answered us."""
        await trio.sleep_forever()

    def size(self) -> float | None:
        """Nodes in our own network, as far as is known."""
        return None

    @abstractmethod
    async def put_value(self, key: bytes, value: bytes) -> Receipt:
        """Store a value under /ipns/ or /pk/ at the nodes nearest to it. Raises RemoteProtocolError when not valid."""

    @abstractmethod
    async def get_value(self, key: bytes) -> bytes | None:
        """The best valid value under a key, None when nobody has one. Those that have a worse one are told."""

    @abstractmethod
    def status(self) -> dict[str, object]:
        """{"nodes": servers in the routing table, "mode": "client"|"server", "why": of the mode, "records": provider
        records kept}."""
