"""What `status`, `shares`, `peers` and `events` show: the state of the parts as plain data, nothing more."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from p2pshare.content.copies import is_copy
from p2pshare.dht import DHT
from p2pshare.net.api import Network, PeerInfo
from p2pshare.store import JOB_STATES, Item, Store
from p2pshare_protocols.link import Link, format_link

PROBLEM_DISK_FREE = 256 * 1024 * 1024  # bytes below which `status` warns


def timestamp(when: float | None) -> str | None:
    """RFC 3339 UTC of unix seconds."""
    return None if when is None else datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")


def link_of(item: Item) -> str:
    return format_link(Link(item.cid, item.name))


def share_view(item: Item) -> dict[str, Any]:
    return {
        "cid": str(item.cid),
        "link": link_of(item),
        "name": item.name,
        "path": item.path,
        "size": item.size,
        "files": item.files,
        "kind": item.kind,
        "type": item.type,
        "tags": list(item.tags),
        "state": item.state,
        "findable": {"stored": item.stored, "asked": item.asked},
        "last_announced": timestamp(item.last_announced),
        "bytes_sent": item.bytes_sent,
        "created": timestamp(item.created),
        "origin": item.origin,
    }


def peer_view(peer: PeerInfo, now: float) -> dict[str, Any]:
    """A connected peer; `since` is how long, in seconds."""
    return {
        "peer_id": peer.peer_id,
        "address": peer.address,
        "direction": peer.direction,
        "since": round(now - peer.since, 3),
        "agent": peer.agent,
        "rtt": peer.rtt,
        "bytes_in": peer.bytes_in,
        "bytes_out": peer.bytes_out,
        "muxer": peer.muxer,
        "security": peer.security,
        "protocols": list(peer.protocols),
        "addresses": list(peer.listen_addresses),
    }


def disk_view(store: Store, directory: str) -> dict[str, int]:
    """Bytes free to us on the catalogue's file system, bytes of the catalogue, and of the blocks in it."""
    about = os.statvfs(directory)
    return {
        "free": about.f_bavail * about.f_frsize,
        "catalogue": store.size(),
        "blocks": store.blocks.stats().bytes,
    }


def storage_view(store: Store) -> dict[str, Any]:
    """Where the room goes, in bytes: blocks kept as bytes, copies, what is only referred to, and what is free."""
    stats, items = store.blocks.stats(), store.items.list()
    copies = [item for item in items if is_copy(str(store.directory), item.path)]
    return {
        **disk_view(store, str(store.directory)),
        "blocks": {"count": stats.blocks, "bytes": stats.bytes},
        "copies": {"count": len(copies), "bytes": sum(item.size for item in copies)},
        "cached": {"count": len(store.cache), "bytes": store.cache.bytes},
        "quota": store.quota.limit,
        "in_place": {"count": len(items) - len(copies), "bytes": sum(i.size for i in items if i not in copies)},
    }


def status_view(
    net: Network, dht: DHT, store: Store, directory: str, meeting: Mapping[str, object] | None
) -> dict[str, Any]:
    network = net.status()
    disk = disk_view(store, directory)
    counts = store.jobs.counts()
    return {
        "peer_id": net.peer_id,
        "addresses": net.addresses(),
        "reachable": network.get("reachable", "unknown"),
        "peers": len(net.peers()),
        "shares": store.items.count(),
        "jobs": {state: counts.get(state, 0) for state in JOB_STATES},
        "rates": network.get("rates", {"in": 0, "out": 0}),
        "disk": disk,
        "dht": {**dht.status(), **_announcing(store), "meeting": meeting},
        "network": {key: value for key, value in network.items() if key not in ("rates", "reachable")},
        "problems": problems(net, dht, disk, store),
    }


def _announcing(store: Store) -> dict[str, int]:
    """How many items are to be findable in the DHT, and of how many at least one node keeps a record."""
    wanted = [item for item in store.items.list() if item.announce and item.state == "ok"]
    return {"to_announce": len(wanted), "announced": sum(item.stored > 0 for item in wanted)}


def problems(net: Network, dht: DHT, disk: dict[str, int], store: Store) -> list[str]:
    """What is wrong and what to do about it, the worst first."""
    found: list[str] = []
    if disk["free"] < PROBLEM_DISK_FREE:
        found.append("the disk is nearly full: fetches will pause; make room, or move the home with P2PSHARE_HOME")
    if not net.peers():
        found.append("no peers: connect one with `p2pshare peers connect MULTIADDR`, or set network.bootstrap")
    announce = dht.status().get("announce")
    if isinstance(announce, dict) and announce.get("behind"):
        found.append(str(announce["behind"]))
    damaged = sum(1 for item in store.items.list() if item.state != "ok")
    if damaged:
        found.append(f"{damaged} shared item(s) changed or vanished: see `p2pshare shares`, then share them again")
    return found
