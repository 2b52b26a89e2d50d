"""AutoNAT v2, the side that asks: connected peers are asked to dial us, and what comes back is the verdict.

Which addresses: our public ones, and those that peers see us at, with the port that we listen on (a router that
forwards it). Without any contact to a public address there is nothing to ask: the network is private.
"""

from __future__ import annotations

import logging
import random
from collections import Counter

import trio

from p2pshare.errors import RemoteError
from p2pshare.net.api import Reachability, Stream
from p2pshare.net.reach import Verdict
from p2pshare.net.reach_server import Public
from p2pshare.net.reach_wire import read_body
from p2pshare.net.switch import Switch
from p2pshare_protocols import autonat, multiaddr
from p2pshare_protocols.autonat import DialDataRequest, DialDataResponse, DialRequest, DialResponse, DialStatus, Status
from p2pshare_protocols.errors import RemoteProtocolError

_log = logging.getLogger(__name__)

ASK_SECONDS = 60.0
AGAIN_SECONDS = 900.0  # between two questions once there is a verdict
SOON_SECONDS = 5.0  # until then
PEER_SECONDS = 600.0  # between two questions to one peer
MAX_CANDIDATES = 8
_FAILURES = (RemoteError, RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class ReachClient:
    """Asks while `run` runs; `Switch.reachability` says the outcome."""

    def __init__(self, switch: Switch, *, public: Public, rng: random.Random) -> None:
        self._switch = switch
        self._public = public
        self._rng = rng
        self._verdict = Verdict()
        self._asked: dict[str, float] = {}
        self._nonces: dict[int, trio.Event] = {}
        switch.handle(autonat.DIAL_BACK, self._dialled_back)

    def candidates(self) -> list[str]:
        """Public addresses at which we may be reachable, those of our interfaces first."""
        own = self._switch.listen_addresses()
        ports = list(dict.fromkeys(port for a in own if (port := multiaddr.tcp_port_of(a)) is not None))
        told = [c.observed for c in self._switch.connections() if c.direction == "out" and c.observed]
        seen = Counter(ip for address in told if (ip := multiaddr.ip_of(address)) is not None)
        outside = [f"/ip{ip.version}/{ip}/tcp/{port}" for ip, _ in seen.most_common(3) for port in ports]
        return [a for a in dict.fromkeys([*own, *outside]) if self._public(a)][:MAX_CANDIDATES]

    def judge(self) -> Reachability:
        candidates, servers = self.candidates(), self._servers()
        if not self._switch.listen_addresses():
            return Reachability("no", "it listens nowhere")
        if not candidates and not any(self._public(c.address) for c in self._switch.connections()):
            return Reachability("private", "only private addresses are known: a network of its own")
        state = self._verdict.judge(len(servers), trio.current_time())
        if state == "unknown" and self._switch.inbound_from_public:
            return Reachability("direct", "others have come in from outside")
        return Reachability(state, _WHY[state])

    def _servers(self) -> list[str]:
        connected = {c.peer_id for c in self._switch.connections()}
        return [peer for peer in connected if autonat.DIAL_REQUEST in self._switch.protocols_of(peer)]

    async def run(self) -> None:
        """Asks a peer whenever that is due, for ever."""
        with self._switch.events() as events:
            while True:
                self._switch.set_reachability(self.judge())
                if await self._ask_one():
                    continue
                known = self._verdict.state != "unknown"
                with trio.move_on_after(AGAIN_SECONDS if known else SOON_SECONDS):
                    await events.receive()

    async def _ask_one(self) -> bool:
        """One that was not asked lately, while the verdict is open or old. False when there is none."""
        now = trio.current_time()
        self._asked = {peer: when for peer, when in self._asked.items() if now - when < PEER_SECONDS}
        waiting = [peer for peer in self._servers() if peer not in self._asked]
        lately = sum(now - when < AGAIN_SECONDS for when in self._asked.values())
        candidates = self.candidates()
        if not waiting or not candidates or (lately >= 3 and self._verdict.state != "unknown"):
            return False
        peer_id = self._rng.choice(waiting)
        self._asked[peer_id] = now
        try:
            with trio.fail_after(ASK_SECONDS):
                reached = await self.ask(peer_id, candidates)
        except _FAILURES as error:
            _log.debug("%s did not say whether we can be reached: %s", peer_id, error)
            return True
        if reached is not None:
            self._verdict.add(peer_id, reached, trio.current_time())
        return True

    async def ask(self, peer_id: str, addresses: list[str]) -> bool | None:
        """Whether the peer reached us; None when it did not try. What it reached becomes an address of ours."""
        nonce = self._rng.getrandbits(64)
        came = self._nonces[nonce] = trio.Event()
        try:
            async with await self._switch.open_stream(peer_id, [autonat.DIAL_REQUEST]) as stream:
                await stream.send_all(autonat.encode(DialRequest(tuple(addresses), nonce)))
                answer = await self._answer(stream, len(addresses))
        finally:
            del self._nonces[nonce]
        if answer.status is not Status.OK or answer.index >= len(addresses):
            return None
        if answer.dial_status is DialStatus.OK and came.is_set():
            self._switch.confirm(addresses[answer.index])
            return True
        return False if answer.dial_status is DialStatus.DIAL_ERROR else None

    async def _answer(self, stream: Stream, count: int) -> DialResponse:
        """Pays with data when it is asked for, once."""
        answer = autonat.decode(await read_body(stream))
        if isinstance(answer, DialDataRequest):
            if answer.count > autonat.MOST_DATA or answer.index >= count:
                raise RemoteProtocolError("an AutoNAT server asks for too much")
            part = autonat.encode(DialDataResponse(bytes(autonat.MAX_DATA)))
            for _ in range(-(-answer.count // autonat.MAX_DATA)):
                await stream.send_all(part)
            answer = autonat.decode(await read_body(stream))
        if not isinstance(answer, DialResponse):
            raise RemoteProtocolError("an AutoNAT server answers something else")
        return answer

    async def _dialled_back(self, stream: Stream) -> None:
        """The nonce counts only when it comes on a connection that was made to us from a public address."""
        with trio.fail_after(ASK_SECONDS):
            nonce = autonat.decode_dial_back(await read_body(stream))
            mine = (c for c in self._switch.connections() if c.peer_id == stream.peer_id)
            if nonce in self._nonces and any(c.direction == "in" and self._public(c.address) for c in mine):
                self._nonces[nonce].set()
                await stream.send_all(autonat.DIAL_BACK_OK)


_WHY = {
    "direct": "others have reached it from outside",
    "no": "others tried to reach it from outside and did not",
    "unknown": "nobody has shown yet that it can be reached from outside",
}
