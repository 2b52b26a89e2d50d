"""Client or server of the DHT, as others can reach this node or not, while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pshare.dht import DHT
from p2pshare.dht.engine import Mode, role_for
from p2pshare.net.api import Network


async def keep_role(
    network: Network, dht: DHT, mode: Mode, note: Callable[[dict[str, Any]], object], changed: Callable[[], None]
) -> None:
    """For ever. `note` hears {"event": "role", "role", "why"} of each change, `changed` is called after it."""
    while True:
        known = network.reachability()
        role, why = role_for(network, mode)
        before = dht.status()["mode"]
        dht.become(role, why)
        if role != before:
            note({"event": "role", "role": role, "why": why})
            changed()
        await network.reachability_changed(known)
