"""In words, where this node can be reached from, and what would make it reachable from farther."""

from __future__ import annotations

import ipaddress
from typing import Any

REACHABLE = {
    "direct": "direct",
    "relay": "through a relay",
    "no": "not from outside: forward the port in the router, or share with a node that others reach",
    "unknown": "from this network; whether from outside too is not known yet",
}


def reach(about: dict[str, Any]) -> str:
    """One phrase from a `status` answer: how far, and at which ports."""
    if about.get("state") == "starting":
        return "not known yet: the node is starting"
    endpoints = [found for address in about.get("addresses") or [] if (found := _endpoint(str(address))) is not None]
    if not endpoints:
        return "from nowhere: no address to listen on; set network.listen"
    ports = ", ".join(dict.fromkeys(f"{transport} {port}" for _, transport, port in endpoints))
    if all(_is_loopback(host) for host, _, _ in endpoints):
        return f"from this machine only ({ports}); set network.listen to let others in"
    state = str(about.get("reachable"))
    return f"{REACHABLE.get(state, state)} ({ports})"


def _endpoint(address: str) -> tuple[str, str, str] | None:
    """(host, transport, port) of /ip4/HOST/tcp/PORT/…."""
    parts = address.split("/")
    return (parts[2], parts[3], parts[4]) if len(parts) >= 5 and parts[0] == "" else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
