"""Listen addresses: from multiaddr to socket address and back, and which of them can be given to others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

import ifaddr

from p2pshare.errors import ConfigError
from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def listen_target(address: str) -> tuple[IP, int]:
    """(IP, TCP port) of a listen address. Raises ConfigError when it is none that we can listen on."""
    parts = address.split("/")
    try:
        multiaddr.to_binary(address)
        if len(parts) != 5 or parts[1] not in ("ip4", "ip6") or parts[3] != "tcp":
            raise RemoteProtocolError("not an IP address and a TCP port")
    except RemoteProtocolError as error:
        raise ConfigError(
            f"cannot listen on {address!r}: {error}",
            hint="Write /ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT, for example /ip4/0.0.0.0/tcp/4001.",
        ) from None
    return ipaddress.ip_address(parts[2]), int(parts[4])


def dial_target(address: str) -> tuple[str, int]:
    """(host, port) of an address for which multiaddr.dialable is true."""
    parts = address.split("/")
    return parts[2], int(parts[4])


@lru_cache(maxsize=1024)  # whoever floods us comes from the same addresses
def ip_of_socket(host: str) -> IP:
    """The IP of a socket's address; an IPv4 address that came in through an IPv6 socket is IPv4."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def from_socket(host: str, port: int) -> str:
    """The multiaddr of a socket's address."""
    ip = ip_of_socket(host)
    return f"/ip{ip.version}/{ip}/tcp/{port}"


def interface_ips() -> list[IP]:
    """The IP addresses of this machine's interfaces, without link-local IPv6 (of use only with a zone)."""
    found: list[IP] = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            ip = ipaddress.ip_address(text)
            if not (ip.version == 6 and ip.is_link_local) and ip not in found:
                found.append(ip)
    return found


def advertised(bound: Iterable[tuple[IP, int]], interfaces: Sequence[IP], *, allow_private: bool) -> list[str]:
    """What others may dial: unspecified addresses become those of the interfaces.

    Loopback is listed only when nothing else is there or private addresses are allowed: it means another machine to
    whoever reads it.
    """
    outside: list[str] = []
    loopback: list[str] = []
    for ip, port in bound:
        for one in [i for i in interfaces if i.version == ip.version] if ip.is_unspecified else [ip]:
            (loopback if one.is_loopback else outside).append(f"/ip{one.version}/{one}/tcp/{port}")
    chosen = outside + loopback if allow_private or not outside else outside
    return list(dict.fromkeys(chosen))
