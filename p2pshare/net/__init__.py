"""The node on the network: the only place that imports libp2p (in libp2p_edge.py). The rest of the daemon sees api.py.

It may use the store's remembered peers through an argument, and identity, config and errors. It must not know
what travels on its streams.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from p2pshare.net.api import Network
from p2pshare.net.parts import DEFAULT_LIMITS, Identity, Limits, Remembered, limits_from


@asynccontextmanager
async def open_network(
    identity: Identity,
    *,
    listen: Sequence[str],
    bootstrap: Sequence[str] = (),
    rendezvous_lan: bool = False,
    allow_private_addresses: bool = False,
    max_connections: int = DEFAULT_LIMITS.connections,
    remembered: Remembered | None = None,
    dial_remembered: bool = True,
    agent: str = "p2pshare",
    limits: Limits | None = None,
    public: Callable[[str], bool] | None = None,
) -> AsyncIterator[Network]:
    """The network, listening. Leaving closes everything in less than two seconds, whatever peers do.

    listen: multiaddrs such as /ip4/0.0.0.0/tcp/4001; port 0 takes a free one. bootstrap: multiaddrs ending in /p2p/ID.
    rendezvous_lan: find and be found by mDNS. allow_private_addresses: dial and advertise private addresses that
    strangers tell, and count loopback as one trusted machine (tests, closed networks). remembered: peers of earlier
    runs, see `Remembered`; they are dialled at the start where `dial_remembered`. public: which addresses are
    outside, for tests; by default all that are not private. Raises ConfigError for a bad address, Exists when
    a port is used, PermissionDenied.
    """
    from p2pshare.net.opening import opened  # imports libp2p: 1 to 2 s, so not before it is needed

    limits = limits or Limits(connections=max_connections)
    async with opened(
        identity,
        listen=listen,
        bootstrap=bootstrap,
        rendezvous_lan=rendezvous_lan,
        allow_private=allow_private_addresses,
        remembered=remembered,
        redial=dial_remembered,
        agent=agent,
        limits=limits,
        public=public,
    ) as network:
        yield network


__all__ = ["Identity", "Limits", "Remembered", "limits_from", "open_network"]
