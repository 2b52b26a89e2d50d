"""Peers on the same LAN, by multicast DNS. Source: github.com/libp2p/specs, discovery/mdns.md.

A node answers for the service _p2p._udp.local under a random name; the name's TXT record has its addresses, each as
`dnsaddr=/ip4/…/tcp/…/p2p/ID`. The names are random so that they tell nothing; the TXT tells peer ID and addresses to
everyone on the LAN. python-zeroconf speaks the DNS, in a thread of its own; this file joins it with trio.
"""

from __future__ import annotations

import logging
import secrets
import string
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from zeroconf import Error as ZeroconfError
from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from p2pshare.errors import P2PShareError
from p2pshare.net.complaints import Complaints
from p2pshare.net.switch import Switch
from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError

_log = logging.getLogger(__name__)

SERVICE = "_p2p._udp.local."
MAX_TEXT = 4096  # bytes of one TXT record that are looked at
MAX_ADDRESSES = 16  # of one peer
MAX_WAITING = 64  # names heard and not yet looked up; more are dropped, and heard again
MAX_PEERS = 128  # that are looked up in one hour: what a stranger on the LAN can make us dial
_PEERS_SECONDS = 3600.0
_AT_ONCE = 4
_LOOK_UP_MS = 3000
_REFRESH_SECONDS = 30.0  # how often our own addresses are looked at
_RETRY_SECONDS = 60.0  # when no interface does multicast
_PREFIX = b"dnsaddr="
T = TypeVar("T")
_NAME = string.ascii_lowercase + string.digits


def encode_text(addresses: Sequence[str]) -> bytes:
    """The TXT record for addresses that end in /p2p/ID: strings of one length byte and `dnsaddr=ADDRESS` each."""
    strings = [_PREFIX + address.encode() for address in addresses[:MAX_ADDRESSES]]
    return b"".join(bytes((len(one),)) + one for one in strings if len(one) < 256)


def decode_text(text: bytes) -> dict[str, list[str]]:
    """Addresses by peer ID, without /p2p, of a TXT record from the LAN. What is no address of ours is left out."""
    found: dict[str, list[str]] = {}
    at, count = 0, 0
    text = text[:MAX_TEXT]
    while at < len(text) and count < MAX_ADDRESSES:
        one = text[at + 1 : at + 1 + text[at]]
        at += 1 + text[at]
        if not one.startswith(_PREFIX):
            continue
        count += 1
        try:
            plain, peer_id = multiaddr.split_peer(one.removeprefix(_PREFIX).decode())
        except (RemoteProtocolError, UnicodeDecodeError):
            continue
        if peer_id is not None and multiaddr.dialable(plain):
            found.setdefault(peer_id, []).append(plain)
    return found


async def find_on_lan(switch: Switch) -> None:
    """Answers for us and connects to those who answer, for ever. Without multicast it waits for some to come."""
    name = "".join(secrets.choice(_NAME) for _ in range(40))
    found = _Found(switch)
    while True:
        addresses = switch.addresses()
        try:
            async with _multicast(_interfaces(addresses), found.heard) as zeroconf, trio.open_nursery() as nursery:
                nursery.start_soon(_announce, zeroconf, name, addresses)
                nursery.start_soon(found.look_up_all, zeroconf)
                while switch.addresses() == addresses:  # noqa: ASYNC110 - interfaces do not tell when they change
                    await trio.sleep(_REFRESH_SECONDS)
                nursery.cancel_scope.cancel()
        except (OSError, RuntimeError, ZeroconfError) as error:
            _log.info("no peers are looked for on the LAN: %s", error)
            await trio.sleep(_RETRY_SECONDS)


def _interfaces(addresses: Sequence[str]) -> list[str]:
    """The IPv4 addresses that we listen on: others hear nothing of us. Raises OSError when there is none."""
    ips = [ip for address in addresses if (ip := multiaddr.ip_of(address)) is not None and ip.version == 4]
    outside = [str(ip) for ip in ips if not ip.is_loopback]
    if not ips:
        raise OSError("there is no IPv4 interface")
    return list(dict.fromkeys(outside or [str(ip) for ip in ips]))


@asynccontextmanager
async def _multicast(interfaces: list[str], heard: Callable[[str], None]) -> AsyncIterator[Zeroconf]:
    """zeroconf on these interfaces, calling `heard(name)` in trio for every name of the service."""
    token = trio.lowlevel.current_trio_token()

    def on_change(service_type: str, name: str, state_change: ServiceStateChange, **_: object) -> None:
        if state_change is not ServiceStateChange.Removed:
            try:
                token.run_sync_soon(heard, name)
            except trio.RunFinishedError:
                return

    def begin() -> Zeroconf:
        zeroconf = Zeroconf(interfaces=interfaces)
        ServiceBrowser(zeroconf, SERVICE, handlers=[on_change])
        return zeroconf

    zeroconf = await trio.to_thread.run_sync(begin)
    try:
        yield zeroconf
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await _in_thread(zeroconf.close)


async def _announce(zeroconf: Zeroconf, name: str, addresses: Sequence[str]) -> None:
    port = multiaddr.tcp_port_of(addresses[0]) or 1
    text = encode_text(addresses)
    ips = _interfaces(addresses)  # go-libp2p and zeroconf wait for an address record before they look at TXT
    info = ServiceInfo(SERVICE, f"{name}.{SERVICE}", port=port, properties=text, parsed_addresses=ips)
    await _in_thread(lambda: zeroconf.register_service(info, cooperating_responders=True))


def _text_of(zeroconf: Zeroconf, name: str) -> bytes:
    """The TXT record of a name, b"" when nobody answers. Blocks, for three seconds at most."""
    info = ServiceInfo(SERVICE, name)
    info.request(zeroconf, _LOOK_UP_MS)
    return info.text or b""


async def _in_thread(work: Callable[[], T]) -> T:
    """Runs `work`, which ends by itself in a few seconds, in a thread; cancelled, it does not wait for that."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)  # type: ignore[call-arg]  # stubs are old


class _Found:
    """Names heard on the LAN, on their way to a connection."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._send, self._names = trio.open_memory_channel[str](MAX_WAITING)
        self._looked_up = 0
        self._complaints = Complaints(_log)
        self._hour = trio.current_time()

    def heard(self, name: str) -> None:
        try:
            self._send.send_nowait(name)
        except trio.WouldBlock:
            _log.debug("too many names on the LAN at once; %r has to wait", name[:80])

    async def look_up_all(self, zeroconf: Zeroconf) -> None:
        """Looks names up as they come, four at once."""
        async with trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(self._work, zeroconf)

    async def _work(self, zeroconf: Zeroconf) -> None:
        while True:
            name = await self._names.receive()
            if self._may_look_up():
                try:
                    await self._look_up(zeroconf, name)
                except Exception as error:  # noqa: BLE001 - a stranger's packet must not end the process
                    self._complaints.about("a name on the LAN could not be looked up, in an unknown way", error)

    def _may_look_up(self) -> bool:
        now = trio.current_time()
        if now - self._hour > _PEERS_SECONDS:
            self._hour, self._looked_up = now, 0
        self._looked_up += 1
        return self._looked_up <= MAX_PEERS

    async def _look_up(self, zeroconf: Zeroconf, name: str) -> None:
        try:
            text = await _in_thread(lambda: _text_of(zeroconf, name))
        except ZeroconfError as error:  # a name that is none
            _log.debug("%r was not looked up: %s", name[:80], error)
            return
        for peer_id, addresses in decode_text(text).items():
            await self._meet(peer_id, addresses)

    async def _meet(self, peer_id: str, addresses: Sequence[str]) -> None:
        if peer_id == self._switch.peer_id:
            return
        self._switch.trust_addresses(peer_id, addresses)
        try:
            await self._switch.reach(peer_id)
        except P2PShareError as error:
            _log.debug("%s was heard on the LAN and not reached: %s", peer_id, error)
