"""The key space of Kademlia: 256-bit numbers, the SHA-256 of what is named, and distance by exclusive or.

Source: github.com/libp2p/specs, kad-dht, "Distance"; Maymounkov and Mazières, Kademlia (2002).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from . import multiaddr, peerid

BITS = 256
K = 20
"""Bucket size, and how many nodes keep a record: the specification's k."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A node of the DHT: its peer ID, its place in the key space, where it may be dialled."""

    peer_id: str
    key: int
    addresses: tuple[str, ...] = ()


def key_of(name: bytes) -> int:
    """Where a peer (its multihash) or a record (the multihash of a CID) stands in the key space."""
    return int.from_bytes(hashlib.sha256(name).digest(), "big")


@lru_cache(8192)  # the same peers are named again and again, and base58 costs 25 us
def peer_key(peer_id: str) -> int:
    """Where a peer stands. Raises RemoteProtocolError when `peer_id` is none."""
    return key_of(peerid.peer_id_to_bytes(peer_id))


def contact(peer_id: str, addresses: Iterable[str] = ()) -> Contact:
    """Raises RemoteProtocolError when `peer_id` is none."""
    return Contact(peer_id, peer_key(peer_id), tuple(addresses))


def shared_bits(a: int, b: int) -> int:
    """The length of the common prefix of two keys, 0 … 256."""
    return BITS - (a ^ b).bit_length()


def name_near(own_key: int, prefix: int, random: bytes) -> bytes:
    """A made-up peer ID (34 bytes) whose key shares exactly `prefix` bits with `own_key`, for refreshing a bucket.

    A server hashes what it is asked for, so the name must be searched: 2**(prefix+1) hashes on average, 30 ms for
    prefix 14. `random` is 32 random bytes. Above 14 bits a lookup of ourselves does the work: ValueError.
    """
    if not 0 <= prefix <= 14:
        raise ValueError("only prefixes of 0 to 14 bits can be searched for")
    for count in range(1 << 20):
        name = b"\x12\x20" + random[:24] + count.to_bytes(8, "big")
        if shared_bits(own_key, key_of(name)) == prefix:
            return name
    raise ValueError("no name found")  # less likely than a hash collision


def subnets(addresses: Iterable[str], *, private_exempt: bool) -> frozenset[str]:
    """The networks that a peer counts for: its IPv4 /24 and IPv6 /56; "names" when it gives no IP address.

    With `private_exempt` private addresses count for nothing: machines of a home or a test share one network.
    """
    groups = set()
    exempt = False
    for address in addresses:
        ip = multiaddr.ip_of(address)
        if ip is None:
            continue
        if private_exempt and multiaddr.is_private_ip(ip):
            exempt = True
            continue
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        bits = 24 if ip.version == 4 else 56
        groups.add(str(ipaddress.ip_network((ip, bits), strict=False)))
    if not groups and not exempt:
        groups.add("names")
    return frozenset(groups)
