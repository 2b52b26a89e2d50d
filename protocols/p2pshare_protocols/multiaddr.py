"""Multiaddrs: an address as text ("/ip4/192.0.2.1/tcp/4001") and as bytes, and what can be read off one.

The binary form is a row of (code as varint, value); a value has a fixed size or a varint length before it.
Codes and value formats: https://github.com/multiformats/multiaddr, protocols.csv. What comes out is canonical:
`to_text(to_binary(t))` is the one spelling of an address. Everything raises `RemoteProtocolError` only.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import peerid, varint
from .errors import RemoteProtocolError

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_BINARY = 1024
"""Bytes. A WebTransport address through a relay with four certificate hashes has about 350."""
MAX_TEXT = 2048
"""Characters. Twice the binary limit: base58 and decimal spell longer than bytes."""
MAX_COMPONENTS = 24

_DNS_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_LOCAL_NAMES = ("localhost", "local", "lan", "internal", "home.arpa")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class _Protocol:
    name: str
    code: int
    size: int  # bytes of the value; 0: no value; -1: length-prefixed
    parse: Callable[[str], bytes] = lambda _text: b""
    show: Callable[[bytes], str] = lambda _value: ""
    takes_rest: bool = False  # the text value is everything that follows, slashes too


def _parse_port(text: str) -> bytes:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise RemoteProtocolError("a multiaddr has a bad port")
    return int(text).to_bytes(2, "big")


def _show_port(value: bytes) -> str:
    return str(int.from_bytes(value, "big"))


def _parse_ip4(text: str) -> bytes:
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        raise RemoteProtocolError("a multiaddr has a bad IPv4 address") from None


def _parse_ip6(text: str) -> bytes:
    try:
        if "%" in text:
            raise ValueError(text)
        return ipaddress.IPv6Address(text).packed
    except ValueError:
        raise RemoteProtocolError("a multiaddr has a bad IPv6 address") from None


def _named(pattern: re.Pattern[str], what: str) -> tuple[Callable[[str], bytes], Callable[[bytes], str]]:
    def parse(text: str) -> bytes:
        if len(text) > 254 or not pattern.fullmatch(text):
            raise RemoteProtocolError(f"a multiaddr has a bad {what}")
        return text.encode("ascii")

    def show(value: bytes) -> str:
        text = value.decode("latin-1")
        parse(text)
        return text

    return parse, show


def _parse_certhash(text: str) -> bytes:
    if not text.startswith("u"):
        raise RemoteProtocolError("a multiaddr has a certificate hash that is not base64url")
    try:
        value = base64.b64decode(text[1:] + "=" * (-len(text[1:]) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise RemoteProtocolError("a multiaddr has a bad certificate hash") from None
    if not value:
        raise RemoteProtocolError("a multiaddr has a bad certificate hash")
    return value


def _show_certhash(value: bytes) -> str:
    if not value:
        raise RemoteProtocolError("a multiaddr has a bad certificate hash")
    return "u" + base64.urlsafe_b64encode(value).decode().rstrip("=")


def _parse_path(text: str) -> bytes:
    try:
        value = text.encode("utf-8")
    except UnicodeEncodeError:
        raise RemoteProtocolError("a multiaddr has a bad socket path") from None
    _show_path(value)
    return value


def _show_path(value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError("a multiaddr has a bad socket path") from None
    if not text.startswith("/") or len(text) < 2 or not text.isprintable():
        raise RemoteProtocolError("a multiaddr has a bad socket path")
    return text


_dns = _named(_DNS_NAME, "host name")
_zone = _named(_ZONE, "zone")

_PROTOCOLS = (
    _Protocol("ip4", 4, 4, _parse_ip4, lambda v: str(ipaddress.IPv4Address(v))),
    _Protocol("tcp", 6, 2, _parse_port, _show_port),
    _Protocol("ip6", 41, 16, _parse_ip6, lambda v: str(ipaddress.IPv6Address(v))),
    _Protocol("ip6zone", 42, -1, *_zone),
    _Protocol("dns", 53, -1, *_dns),
    _Protocol("dns4", 54, -1, *_dns),
    _Protocol("dns6", 55, -1, *_dns),
    _Protocol("dnsaddr", 56, -1, *_dns),
    _Protocol("udp", 273, 2, _parse_port, _show_port),
    _Protocol("webrtc-direct", 280, 0),
    _Protocol("webrtc", 281, 0),
    _Protocol("p2p-circuit", 290, 0),
    _Protocol("unix", 400, -1, _parse_path, _show_path, takes_rest=True),
    _Protocol("p2p", 421, -1, peerid.peer_id_to_bytes, peerid.peer_id_from_bytes),
    _Protocol("tls", 448, 0),
    _Protocol("sni", 449, -1, *_dns),
    _Protocol("noise", 454, 0),
    _Protocol("quic", 460, 0),
    _Protocol("quic-v1", 461, 0),
    _Protocol("webtransport", 465, 0),
    _Protocol("certhash", 466, -1, _parse_certhash, _show_certhash),
    _Protocol("ws", 477, 0),
    _Protocol("wss", 478, 0),
    _Protocol("http", 480, 0),
)
_BY_CODE = {protocol.code: protocol for protocol in _PROTOCOLS}
_BY_NAME = {protocol.name: protocol for protocol in _PROTOCOLS}
_BY_NAME["ipfs"] = _BY_NAME["p2p"]  # the old name, still read


def _components_of_text(text: str) -> Iterator[tuple[_Protocol, bytes]]:
    if len(text) > MAX_TEXT or not text.startswith("/"):
        raise RemoteProtocolError("a multiaddr starts with / and has at most 2048 characters")
    parts = text.split("/")[1:]
    at = 0
    while at < len(parts):
        protocol = _BY_NAME.get(parts[at])
        if protocol is None:
            raise RemoteProtocolError("a multiaddr names a protocol that is not known")
        at += 1
        if protocol.size == 0:
            yield protocol, b""
            continue
        if at == len(parts):
            raise RemoteProtocolError(f"a multiaddr ends where the value of {protocol.name} should be")
        end = len(parts) if protocol.takes_rest else at + 1
        value = "/" + "/".join(parts[at:end]) if protocol.takes_rest else parts[at]
        yield protocol, protocol.parse(value)
        at = end


def _read_text(text: str) -> list[tuple[_Protocol, bytes]]:
    return list(_components_of_text(text))  # to its end, so that a bad tail counts


def _components_of_binary(binary: bytes) -> Iterator[tuple[_Protocol, bytes]]:
    if not 0 < len(binary) <= MAX_BINARY:
        raise RemoteProtocolError("a multiaddr has 1 to 1024 bytes")
    at = 0
    while at < len(binary):
        code, at = varint.decode(binary, at)
        protocol = _BY_CODE.get(code)
        if protocol is None:
            raise RemoteProtocolError("a multiaddr names a protocol that is not known")
        size = protocol.size
        if size < 0:
            size, at = varint.decode(binary, at)
        if size > len(binary) - at:
            raise RemoteProtocolError("a multiaddr ends inside a value")
        yield protocol, bytes(binary[at : at + size])
        at += size


def to_binary(text: str) -> bytes:
    """The bytes of a multiaddr given as text. Raises RemoteProtocolError."""
    out = bytearray()
    for count, (protocol, value) in enumerate(_components_of_text(text)):
        if count == MAX_COMPONENTS:
            raise RemoteProtocolError("a multiaddr has too many components")
        out += varint.encode(protocol.code)
        if protocol.size < 0:
            out += varint.encode(len(value))
        out += value
    if len(out) > MAX_BINARY:
        raise RemoteProtocolError("a multiaddr has 1 to 1024 bytes")
    return bytes(out)


def to_text(binary: bytes) -> str:
    """The canonical text of a multiaddr given as bytes. Raises RemoteProtocolError, also for unknown codes."""
    out: list[str] = []
    for count, (protocol, value) in enumerate(_components_of_binary(binary)):
        if count == MAX_COMPONENTS:
            raise RemoteProtocolError("a multiaddr has too many components")
        out.append("/" + protocol.name)
        if protocol.size:
            shown = protocol.show(value)
            out.append(shown if protocol.takes_rest else "/" + shown)
    return "".join(out)


def split_peer(text: str) -> tuple[str, str | None]:
    """("/ip4/…/tcp/4001", peer ID) of an address that ends in /p2p/ID; (the address, None) of one that does not.

    The address may be empty ("/p2p/ID" alone). Only the last component counts: of an address through a relay
    this is the peer behind it. The rest is returned as it was written. Raises RemoteProtocolError.
    """
    to_binary(text)
    head, _, last = text.rpartition("/")
    for name in ("/p2p", "/ipfs"):
        if head.endswith(name) and "/unix/" not in head:
            return head.removesuffix(name), peerid.check_peer_id(last)
    return text, None


def ip_of(text: str) -> IP | None:
    """The IP address that a connection to `text` goes to; None for a name or when the text is no multiaddr."""
    try:
        for protocol, value in _read_text(text):
            if protocol.name in ("ip4", "ip6"):
                return ipaddress.ip_address(value)
            if protocol.name != "ip6zone":
                return None
    except RemoteProtocolError:
        pass
    return None


def tcp_port_of(text: str) -> int | None:
    """The TCP port that a connection to `text` goes to, or None."""
    try:
        for place, (protocol, value) in enumerate(_read_text(text)):
            if protocol.name == "tcp":
                return int.from_bytes(value, "big")
            if place > 1:
                return None
    except RemoteProtocolError:
        pass
    return None


def is_private_ip(ip: IP) -> bool:
    """True for an IP address that means something else (or nothing) on another network."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(ip.packed[12:])
        if inner is not None:
            return is_private_ip(inner)
    return not ip.is_global or ip.is_multicast


def is_private(text: str) -> bool:
    """True when the address is of use only on this machine or its own network; never to be given to the public.

    Loopback, link-local, RFC 1918, RFC 6598, unique local, unspecified, and names such as localhost and *.local.
    A text that is no multiaddr is private: nothing is known of it.
    """
    try:
        for protocol, value in _read_text(text):
            if protocol.name in ("ip4", "ip6"):
                return is_private_ip(ipaddress.ip_address(value))
            if protocol.name.startswith("dns"):
                name = "." + value.decode("ascii").lower().rstrip(".")
                return "." not in name[1:] or any(name.endswith("." + local) for local in _LOCAL_NAMES)
            if protocol.name == "p2p":
                return False
            if protocol.name != "ip6zone":
                return True
    except RemoteProtocolError:
        return True
    return True


def dialable(text: str) -> bool:
    """True for an address that our TCP transport can dial: /ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/ID].

    False for unspecified and multicast hosts, port 0, and every other transport.
    """
    try:
        parts = _read_text(text)
    except RemoteProtocolError:
        return False
    if [protocol.name for protocol, _ in parts[2:]] not in ([], ["p2p"]) or len(parts) < 2:
        return False
    (host, host_value), (transport, port) = parts[:2]
    if transport.name != "tcp" or port == b"\0\0":
        return False
    if host.name in ("ip4", "ip6"):
        ip = ipaddress.ip_address(host_value)
        return not (ip.is_unspecified or ip.is_multicast)
    return host.name in ("dns", "dns4", "dns6")
