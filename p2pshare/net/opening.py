"""Builds the network from its parts and starts it: reads like a table of contents."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from p2pshare.errors import LocalError
from p2pshare.net import tcp
from p2pshare.net.attend import Attendant
from p2pshare.net.first_peers import check_bootstrap, dial_remembered, keep_bootstrap
from p2pshare.net.kinds import KnownPeers
from p2pshare.net.mdns import find_on_lan
from p2pshare.net.own import own_muxers, own_sessions
from p2pshare.net.parts import Identity, Limits, Remembered
from p2pshare.net.reach_client import ReachClient
from p2pshare.net.reach_server import ReachServer
from p2pshare.net.switch import Switch
from p2pshare.net.upgrade import Upgrader
from p2pshare_protocols import multiaddr

_log = logging.getLogger(__name__)


@asynccontextmanager
async def opened(
    identity: Identity,
    *,
    listen: Sequence[str],
    bootstrap: Sequence[str],
    rendezvous_lan: bool,
    allow_private: bool,
    remembered: Remembered | None,
    redial: bool,
    agent: str,
    limits: Limits,
    public: Callable[[str], bool] | None = None,
) -> AsyncIterator[Switch]:
    """See `p2pshare.net.open_network`."""
    configured = check_bootstrap(bootstrap)
    upgrader = Upgrader(own_sessions(identity), own_muxers(), _known(remembered))
    listeners = await tcp.bind(listen)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            switch = Switch(
                identity.peer_id,
                upgrader=upgrader,
                bound=[tcp.bound_to(sock) for sock in listeners],
                limits=limits,
                allow_private=allow_private,
                nursery=nursery,
            )
            attendant = Attendant(switch, identity, agent, remembered)
            public, rng = public or (lambda address: not multiaddr.is_private(address)), random.SystemRandom()
            ReachServer(switch, public=public, rng=rng)
            nursery.start_soon(ReachClient(switch, public=public, rng=rng).run)
            nursery.start_soon(attendant.push_changes)
            nursery.start_soon(switch.rates.sample, switch.totals)
            nursery.start_soon(switch.keep_house)
            for sock in listeners:
                nursery.start_soon(tcp.accept_forever, sock, switch.accepted)
            for peer_id, addresses in configured.items():
                nursery.start_soon(keep_bootstrap, switch, peer_id, addresses)
            if rendezvous_lan:
                nursery.start_soon(find_on_lan, switch)
            if remembered is not None and redial:
                nursery.start_soon(dial_remembered, switch, remembered)
            try:
                yield switch
            except Exception as error:  # noqa: BLE001 - nothing is swallowed
                failure = error  # the caller's own: raised below, outside the nursery, so that it stays bare
            finally:
                _close(listeners)
                await switch.aclose()
                nursery.cancel_scope.cancel()
    finally:
        _close(listeners)
    if failure is not None:
        raise failure


def _known(remembered: Remembered | None) -> KnownPeers:
    """What peers of earlier runs speak."""
    if remembered is None:
        return KnownPeers(time.time)

    def forgotten(peer_id: str) -> None:
        try:
            remembered.spoke(peer_id, "", False, 0.0)
        except LocalError as error:  # it costs a second attempt after the next start
            _log.warning("what a peer spoke could not be forgotten: %s", error)

    known = KnownPeers(time.time, forgotten)
    known.restore(reversed(remembered.spoken()))
    return known


def _close(listeners: Sequence[trio.socket.SocketType]) -> None:
    for sock in listeners:
        sock.close()
