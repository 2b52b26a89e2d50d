"""Dialling a peer: all its addresses in a race with staggered starts; the first secured connection wins (RFC 8305)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from p2pshare.errors import RemoteError, Unreachable
from p2pshare.net import tcp
from p2pshare.net.addresses import dial_target
from p2pshare.net.book import Backoff
from p2pshare.net.complaints import Complaints
from p2pshare.net.upgrade import Upgraded, Upgrader

_log = logging.getLogger(__name__)

STAGGER = 0.15  # seconds between starts, when none failed before; RFC 8305 recommends 0.1 to 2
ATTEMPT_SECONDS = 10.0
MAX_DIALS = 64  # peers dialled at once
_Try = Callable[[str, str], Awaitable[Upgraded]]
_FAMILIES = {"ip4": socket.AF_INET, "dns4": socket.AF_INET, "ip6": socket.AF_INET6, "dns6": socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Dialled:
    upgraded: Upgraded
    address: str


@dataclass(slots=True)
class _Attempt:
    """A dial under way, which everyone who wants the same peer waits for."""

    addresses: frozenset[str]
    done: trio.Event = field(default_factory=trio.Event)
    error: RemoteError | None = None


class Dialer:
    """Dials peers. `attempt` dials one address and secures the connection, or raises RemoteError; `take` receives every
    won connection; `nursery` runs the dials, so a caller who leaves ends none. `attempt_beside` is for `beside`.
    """

    def __init__(
        self,
        attempt: _Try,
        take: Callable[[Dialled], Awaitable[None]],
        nursery: trio.Nursery,
        attempt_beside: _Try | None = None,
    ) -> None:
        self._attempt = attempt
        self._attempt_beside = attempt if attempt_beside is None else attempt_beside
        self._take = take
        self._nursery = nursery
        self._backoff = Backoff()
        self._complaints = Complaints(_log)
        self._attempts: dict[str, _Attempt] = {}
        self._room = trio.CapacityLimiter(MAX_DIALS)

    async def dial(self, peer_id: str, addresses: Sequence[str], *, impatient: bool = False) -> None:
        """Returns when `take` has a connection to the peer. Raises RemoteError.

        An address in its pause is left out, unless `impatient` (a person asked). Concurrent calls share one attempt.
        """
        while True:
            attempt = self._attempts.get(peer_id) or self._begin(peer_id, addresses, impatient)
            await attempt.done.wait()
            if attempt.error is None:
                return
            if attempt.addresses.issuperset(addresses):
                raise type(attempt.error)(attempt.error.message, hint=attempt.error.hint, kind=attempt.error.kind)
            addresses = [a for a in addresses if a not in attempt.addresses]  # the shared attempt had other ones

    def _begin(self, peer_id: str, addresses: Sequence[str], impatient: bool) -> _Attempt:
        now = trio.current_time()
        ready = [a for a in addresses if impatient or self._backoff.ready(a, now)]
        if not ready:
            why = "its addresses failed a moment ago" if addresses else "no address of it is known"
            raise Unreachable(f"{peer_id} cannot be dialled: {why}")
        attempt = self._attempts[peer_id] = _Attempt(frozenset(addresses))
        self._nursery.start_soon(self._run, attempt, peer_id, ready)
        return attempt

    async def _run(self, attempt: _Attempt, peer_id: str, addresses: Sequence[str]) -> None:
        try:
            async with self._room:
                await self._take(await self._race(peer_id, addresses, self._attempt))
        except RemoteError as error:
            attempt.error = error
        except Exception as error:  # noqa: BLE001 - a stranger's bytes must not end the process
            attempt.error = self._defect("a connection to a peer was not taken, in an unknown way", error)
        finally:
            del self._attempts[peer_id]
            attempt.done.set()

    async def _attempted(self, attempt: _Try, peer_id: str, address: str) -> Upgraded:
        """`attempt`, of which nothing comes out but a RemoteError."""
        try:
            return await attempt(peer_id, address)
        except RemoteError:
            raise
        except Exception as error:
            raise self._defect("a handshake with a peer went wrong in an unknown way", error) from error

    def _defect(self, what: str, error: Exception) -> RemoteError:
        self._complaints.about(what, error)
        return RemoteError(what, kind="failed")

    async def beside(self, peer_id: str, addresses: Sequence[str]) -> Dialled:
        """Another connection to a peer that is connected already; not given to `take`. Raises RemoteError.

        Neither shared with other calls nor held up by pauses after failures.
        """
        if not addresses:
            raise Unreachable(f"{peer_id} cannot be dialled: no address of it is known")
        async with self._room:
            return await self._race(peer_id, addresses, self._attempt_beside)

    async def _race(self, peer_id: str, addresses: Sequence[str], attempt: _Try) -> Dialled:
        winners: list[Dialled] = []
        failures: list[RemoteError] = []
        try:
            await self._stagger(peer_id, addresses, attempt, winners, failures)
        except BaseException:
            for winner in winners:
                await winner.upgraded.secure.abort()
            raise
        if not winners:
            raise _summary(peer_id, failures)
        for late in winners[1:]:
            await late.upgraded.secure.abort()
        return winners[0]

    async def _stagger(
        self,
        peer_id: str,
        addresses: Sequence[str],
        attempt: _Try,
        winners: list[Dialled],
        failures: list[RemoteError],
    ) -> None:
        async with trio.open_nursery() as nursery:

            async def one(address: str, failed: trio.Event) -> None:
                try:
                    upgraded = await self._attempted(attempt, peer_id, address)
                except RemoteError as error:
                    self._backoff.failed(address, trio.current_time())
                    failures.append(error)
                    failed.set()
                    return
                self._backoff.succeeded(address)
                winners.append(Dialled(upgraded, address))
                nursery.cancel_scope.cancel()

            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(one, address, failed)
                with trio.move_on_after(STAGGER):
                    await failed.wait()


async def dial_tcp(upgrader: Upgrader, peer_id: str, address: str, *, persistently: bool = False) -> Upgraded:
    """A secured connection to the peer at one address, within ten seconds. Raises RemoteError, naming the address."""
    host, port = dial_target(address)
    dial = tcp.dial_persistently if persistently else tcp.dial
    family = _FAMILIES.get(address.split("/")[1], 0)
    try:
        with trio.fail_after(ATTEMPT_SECONDS):
            if upgrader.goes_ahead(peer_id):
                with suppress(RemoteError):  # it is not what it was: step by step, at once
                    return await upgrader.outbound(await dial(host, port, family), peer_id)
            return await upgrader.outbound(await dial(host, port, family), peer_id)
    except RemoteError as error:
        raise RemoteError(f"{address}: {error.message}", kind=error.kind) from error
    except (OSError, trio.TooSlowError) as error:
        reason = "no answer" if isinstance(error, trio.TooSlowError) else (error.strerror or str(error)).lower()
        raise Unreachable(f"{address}: {reason}") from error


def _summary(peer_id: str, failures: Sequence[RemoteError]) -> RemoteError:
    """One error for all addresses: what they have in common, or that the peer cannot be reached."""
    kinds = {error.kind for error in failures}
    kind = kinds.pop() if len(kinds) == 1 else "unreachable"
    reasons = "; ".join(error.message for error in failures[:4])
    if kind == "unreachable":
        return Unreachable(f"{peer_id} cannot be reached: {reasons}")
    return RemoteError(f"{peer_id} cannot be reached: {reasons}", kind=kind)
