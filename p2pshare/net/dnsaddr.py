"""/dnsaddr addresses: the addresses of peers that stand in TXT records of a name.

Source: github.com/libp2p/specs, addressing ("dnsaddr Links"): the TXT records of `_dnsaddr.NAME`, each
`dnsaddr=ADDRESS`, where ADDRESS may be another /dnsaddr. Whoever answers for the name is a stranger, so all is bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

import dns.asyncresolver
import dns.exception
import trio

from p2pshare_protocols import multiaddr
from p2pshare_protocols.errors import RemoteProtocolError

_log = logging.getLogger(__name__)

MAX_DEPTH = 3  # names behind names; those of libp2p.io need two
MAX_LOOKUPS = 32  # of one `resolve`
MAX_TEXTS = 64  # of one name
MAX_ADDRESSES = 64  # that one `resolve` gives
LOOKUP_SECONDS = 5.0
_PREFIX = b"dnsaddr="

LookUp = Callable[[str], Awaitable[Sequence[bytes]]]
"""The TXT records of a name; empty when there are none or nobody answers."""


def is_dnsaddr(address: str) -> bool:
    """Whether a multiaddr has to be resolved before anything can be dialled."""
    return address.startswith("/dnsaddr/")


async def txt_records(name: str) -> list[bytes]:
    """Asks the resolver of this machine."""
    try:
        resolver = dns.asyncresolver.Resolver()
    except dns.exception.DNSException as error:
        _log.info("no names can be looked up: %s", error)
        return []
    return await ask(resolver, name)


async def ask(resolver: dns.asyncresolver.Resolver, name: str) -> list[bytes]:
    """The same of one resolver. A record that is in several strings is one text."""
    try:
        answer = await resolver.resolve(name, "TXT", lifetime=LOOKUP_SECONDS)
    except (dns.exception.DNSException, OSError, UnicodeError, trio.TooSlowError) as error:
        _log.info("%s was not found in the DNS: %s", name, error)
        return []
    return [b"".join(record.strings) for record in answer][:MAX_TEXTS]


async def resolve(addresses: Iterable[str], look_up: LookUp = txt_records) -> dict[str, list[str]]:
    """Addresses that can be dialled, by peer ID, without /p2p. What is no /dnsaddr stays as it is.

    An address that names a peer gives that peer only, whatever the DNS says. Never raises for what the DNS says.
    """
    work = _Resolving(look_up)
    for address in addresses:
        try:
            plain, peer_id = multiaddr.split_peer(address)
        except RemoteProtocolError:
            continue
        await work.take(plain, peer_id, MAX_DEPTH)
    return work.found


class _Resolving:
    """One `resolve`: what was looked up already, and what came of it."""

    def __init__(self, look_up: LookUp) -> None:
        self.found: dict[str, list[str]] = {}
        self._look_up = look_up
        self._known: dict[str, list[tuple[str, str | None]]] = {}
        self._count = 0

    async def take(self, plain: str, peer_id: str | None, depth: int) -> None:
        if not is_dnsaddr(plain):
            if peer_id is not None and multiaddr.dialable(plain):
                self._keep(peer_id, plain)
            return
        if depth == 0:
            return
        for address, named in await self._linked(plain.split("/")[2]):
            if peer_id is None or named in (None, peer_id):
                await self.take(address, named or peer_id, depth - 1)

    def _keep(self, peer_id: str, plain: str) -> None:
        there = self.found.get(peer_id, [])
        if plain not in there and self._count < MAX_ADDRESSES:
            self._count += 1
            self.found[peer_id] = [*there, plain]

    async def _linked(self, name: str) -> list[tuple[str, str | None]]:
        """(address, peer ID) of a name's records."""
        name = name.lower().rstrip(".")
        if name not in self._known:
            if len(self._known) >= MAX_LOOKUPS:
                return []
            self._known[name] = []  # before the look-up: a name that leads to itself leads nowhere
            self._known[name] = _read(await self._look_up(f"_dnsaddr.{name}"))
        return self._known[name]


def _read(texts: Sequence[bytes]) -> list[tuple[str, str | None]]:
    found = []
    for text in texts[:MAX_TEXTS]:
        if text.startswith(_PREFIX):
            try:
                found.append(multiaddr.split_peer(text.removeprefix(_PREFIX).decode()))
            except (RemoteProtocolError, UnicodeDecodeError):
                continue
    return found
