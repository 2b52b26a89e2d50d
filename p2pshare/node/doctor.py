"""`doctor`: what must be right for a node to work, each looked at for real, with the remedy when it is not."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
import socket
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import trio

from p2pshare.config import Config
from p2pshare.dht import DHT
from p2pshare.errors import P2PShareError
from p2pshare.identity import load_or_create
from p2pshare.net.api import Network
from p2pshare.node.views import PROBLEM_DISK_FREE
from p2pshare.store import Store
from p2pshare_protocols.places import Places

FULL: Final = 16 << 20  # bytes free below which nothing can be written safely
DESCRIPTORS: Final = 1024  # the least with which connections and shared files get along
PROBE_TIMEOUT: Final = 2.0  # seconds for a connection to our own port
SKEW: Final = 300.0  # seconds that the clock may lie behind what the catalogue has seen
MADE: Final = 1_735_689_600.0  # 2025-01-01 UTC: a clock before that was never set

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line. `remedy` says what to do, and is empty when all is well."""

    name: str
    state: State
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Looks at the parts of a running node."""

    config: Config
    places: Places
    network: Network
    dht: DHT
    store: Store

    async def examine(self, now: float) -> dict[str, Any]:
        """{"checks": [{"name", "state", "message", "remedy"}], "failed": n}; `now` is the wall clock's time."""
        found = [*self._home(), await trio.to_thread.run_sync(self._key)]
        found += await self._ports()
        found += [self._nat(), self._clock(now), self._disk(), self._descriptors(), self._dht(), *self._bootstrap()]
        found += self._shares()
        return {"checks": [asdict(check) for check in found], "failed": sum(c.state == "fail" for c in found)}

    def _home(self) -> Iterator[Check]:
        for name, path, allowed in (("socket", self.places.socket, 0o600), ("home", self.places.data, 0o700)):
            try:
                mode = stat.S_IMODE(os.stat(path).st_mode)
            except OSError as error:
                yield Check(name, "fail", f"{path}: {error.strerror}", "p2pshare daemon restart")
                continue
            if mode & ~allowed:
                yield Check(name, "fail", f"others may use {path} (mode {mode:o})", f"chmod {allowed:o} {path}")
            else:
                yield Check(name, "ok", f"{path} is private")

    def _key(self) -> Check:
        try:
            same = os.path.exists(self.places.identity) and (
                load_or_create(self.places.identity).peer_id == self.network.peer_id
            )
        except P2PShareError as error:
            return Check("key", "fail", error.message, error.hint or "Restore it from a backup.")
        if not same:
            message = f"{self.places.identity} is not the key that this daemon runs with"
            return Check("key", "fail", message, "Restore it from a backup, then: p2pshare daemon restart")
        return Check("key", "ok", f"peer ID {self.network.peer_id}")

    async def _ports(self) -> list[Check]:
        places = sorted({place for address in self.network.addresses() if (place := _tcp(address)) is not None})
        if not places:
            remedy = "p2pshare config set network.listen '[\"/ip4/0.0.0.0/tcp/4001\"]', then p2pshare daemon restart"
            return [Check("ports", "fail", "the node listens nowhere", remedy)]
        found = []
        for host, port in places:
            if await _answers(host, port):
                found.append(Check("ports", "ok", f"{host} port {port} (TCP) takes connections"))
            else:
                remedy = "Let the port through the firewall of this machine."
                found.append(Check("ports", "fail", f"{host} port {port} (TCP) does not answer", remedy))
        return found

    def _nat(self) -> Check:
        reachable = self.network.status().get("reachable")
        if reachable == "direct":
            return Check("nat", "ok", "others have reached this node from outside")
        if reachable == "relay":
            return Check("nat", "ok", "others reach this node through a relay")
        places = [place for address in self.network.addresses() if (place := _tcp(address)) is not None]
        if places and all(ipaddress.ip_address(host).is_loopback for host, _ in places):
            remedy = "Set network.listen to take others in."
            return Check("nat", "warn", "the node listens for this machine only", remedy)
        ports = ", ".join(sorted({str(port) for _, port in places}))
        remedy = f"To be reached from outside, forward TCP port {ports or '4001'} to this machine in the router."
        if reachable == "no":
            return Check("nat", "warn", "nobody can reach this node from outside", remedy)
        return Check("nat", "warn", "not known: nobody has come in from outside yet", remedy)

    def _clock(self, now: float) -> Check:
        seen = max((job.updated for job in self.store.jobs.list()), default=0.0)
        if now < MADE or seen > now + SKEW:
            remedy = "Set it: timedatectl set-ntp true"
            return Check("clock", "fail", "the clock of this machine is behind; records would expire wrongly", remedy)
        return Check("clock", "ok", "the clock does not run backwards")

    def _disk(self) -> Check:
        about = os.statvfs(self.store.directory)
        free = about.f_bavail * about.f_frsize
        message = f"{free >> 20} MiB free where the catalogue lies"
        if free >= PROBLEM_DISK_FREE:
            return Check("disk", "ok", message)
        remedy = "Make room: p2pshare storage gc, or move the home with P2PSHARE_HOME."
        return Check("disk", "fail" if free < FULL else "warn", message, remedy)

    def _descriptors(self) -> Check:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
            remedy = f"Raise it: ulimit -n {DESCRIPTORS}, then p2pshare daemon restart"
            return Check("files", "warn", f"only {soft} files and connections can be open at once", remedy)
        return Check("files", "ok", f"{soft} files and connections can be open at once")

    def _dht(self) -> Check:
        about = self.dht.status()
        if about.get("nodes"):
            return Check("dht", "ok", f"{about['nodes']} nodes known, as {about.get('mode')}: {about.get('why')}")
        remedy = "Connect one: p2pshare peers connect MULTIADDR, or set network.bootstrap"
        return Check("dht", "warn", "no other node is known: nothing can be announced or looked up", remedy)

    def _bootstrap(self) -> Iterator[Check]:
        configured = self.config.texts("network.bootstrap")
        for address in configured:
            if self.network.is_connected(address.rpartition("/p2p/")[2]):
                yield Check("bootstrap", "ok", f"connected to {address}")
            else:
                remedy = "See whether it runs and its address is right; it is tried again by itself."
                yield Check("bootstrap", "warn", f"not connected to {address}", remedy)
        if not configured and not self.network.peers():
            remedy = "p2pshare config set network.bootstrap '[\"MULTIADDR\"]' with what p2pshare id prints there"
            yield Check("bootstrap", "warn", "none is set, and no peer is connected", remedy)
        elif not configured:
            yield Check("bootstrap", "ok", "none is set; peers were found otherwise")

    def _shares(self) -> Iterator[Check]:
        items = self.store.items.list()
        bad = [item for item in items if item.state != "ok"]
        if bad:
            message = f"{len(bad)} of {len(items)} shared items changed or vanished"
            yield Check("shares", "warn", message, "p2pshare shares names them; share or unshare them again.")
        else:
            yield Check("shares", "ok", f"{len(items)} shared, all as they were")


def _tcp(address: str) -> tuple[str, int] | None:
    parts = address.split("/")
    if len(parts) < 5 or parts[1] not in {"ip4", "ip6"} or parts[3] != "tcp" or not parts[4].isdigit():
        return None
    return parts[2], int(parts[4])


async def _answers(host: str, port: int) -> bool:
    """Whether our own listener takes a connection; it is closed at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        trio.move_on_after(PROBE_TIMEOUT),
        contextlib.suppress(OSError),
        trio.socket.socket(family, socket.SOCK_STREAM) as probe,
    ):
        await probe.connect((host, port))
        return True
    return False
