"""Finding peers at start: the configured ones, again and again until connected, and those of earlier runs once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from p2pshare.errors import ConfigError, P2PShareError
from p2pshare.net.dnsaddr import LookUp, resolve, txt_records
from p2pshare.net.parts import Remembered
from p2pshare.net.switch import Switch
from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError

_log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0  # seconds; doubles up to LONGEST_PAUSE while a peer cannot be reached
LONGEST_PAUSE = 300.0
CHECK_SECONDS = 30.0  # how often a connected bootstrap peer is looked at
AT_ONCE = 8
MAX_REMEMBERED = 64  # peers of earlier runs that are tried


def check_bootstrap(addresses: Sequence[str]) -> dict[str, list[str]]:
    """Addresses by peer, a /dnsaddr as it is. Raises ConfigError when one does not end in /p2p/ID."""
    found: dict[str, list[str]] = {}
    for address in addresses:
        try:
            plain, peer_id = multiaddr.split_peer(address)
        except RemoteProtocolError as error:
            raise ConfigError(f"network.bootstrap: {address!r} is not an address: {error}") from None
        if peer_id is None:
            raise ConfigError(
                f"network.bootstrap: {address!r} names no peer", hint="It has to end in /p2p/ and the peer's ID."
            )
        found.setdefault(peer_id, []).append(plain)
    return found


async def keep_bootstrap(switch: Switch, peer_id: str, addresses: Sequence[str], look_up: LookUp = txt_records) -> None:
    """Stays connected to one configured peer, trying again with growing pauses; a name is looked up each time."""
    named = [f"{address}/p2p/{peer_id}" for address in addresses]
    if peer_id == switch.peer_id:
        return
    switch.protect(peer_id, "bootstrap")
    pause = FIRST_PAUSE
    while True:
        if switch.is_connected(peer_id):
            await trio.sleep(CHECK_SECONDS)
            if switch.is_connected(peer_id):
                pause = FIRST_PAUSE
            continue
        switch.trust_addresses(peer_id, (await resolve(named, look_up)).get(peer_id, ()))
        if not await _try(switch, peer_id) or not switch.is_connected(peer_id):
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


async def dial_remembered(switch: Switch, remembered: Remembered) -> None:
    """Tries peers of earlier runs, eight at once. What was dialled before may be private: we were connected to it."""
    room = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:

        async def one(peer_id: str) -> None:
            async with room:
                if not switch.is_connected(peer_id):
                    await _try(switch, peer_id)

        for peer_id, addresses, _ in remembered.known(MAX_REMEMBERED):
            if peer_id != switch.peer_id:
                switch.trust_addresses(peer_id, addresses)
                nursery.start_soon(one, peer_id)


async def _try(switch: Switch, peer_id: str) -> bool:
    try:
        await switch.reach(peer_id)
    except P2PShareError as error:
        _log.debug("%s", error)
        return False
    return True
