"""AutoNAT v2, the side that dials: for a peer that asks, one of its addresses, and says how it went.

Bounds: a stranger makes us dial only public IP addresses, one a request, and another IP than its own only after it
sent more bytes than the dial costs. Specified in protocols/autonat.md.
"""

from __future__ import annotations

import logging
import random
from collections import OrderedDict
from collections.abc import Callable

import trio

from p2pshare.errors import RemoteError
from p2pshare.net import negotiate
from p2pshare.net.api import Stream
from p2pshare.net.bucket import Bucket
from p2pshare.net.reach_wire import read_body
from p2pshare.net.switch import Switch
from p2pshare.net.upgrade import Upgraded
from p2pshare_protocols import autonat, multiaddr
from p2pshare_protocols.autonat import DialDataRequest, DialDataResponse, DialRequest, DialResponse, DialStatus, Status
from p2pshare_protocols.errors import ProtocolError, RemoteProtocolError

_log = logging.getLogger(__name__)

REQUEST_SECONDS = 60.0  # all of it: 100 kB at 2 kB/s, and a dial
BACK_SECONDS = 15.0  # dialling, and saying the nonce
A_MINUTE = 60  # requests of all peers (go-libp2p: 60, and 12 of one)
A_MINUTE_PER_PEER = 12
AT_ONCE = 8
_PEERS = 1024  # whose rate is remembered

Public = Callable[[str], bool]


class ReachServer:
    """Serves dial requests on the switch, dialling what `public` allows."""

    def __init__(self, switch: Switch, *, public: Public, rng: random.Random) -> None:
        self._switch = switch
        self._public = public
        self._rng = rng
        self._all = Bucket(A_MINUTE, A_MINUTE / 60)
        self._each: OrderedDict[str, Bucket] = OrderedDict()
        self._busy: set[str] = set()
        switch.handle(autonat.DIAL_REQUEST, self.handle)

    async def handle(self, stream: Stream) -> None:
        """One request. Raises RemoteProtocolError, trio.BrokenResourceError: the stream is reset."""
        with trio.move_on_after(REQUEST_SECONDS) as scope:
            if not self._may_ask(stream.peer_id):
                await stream.send_all(autonat.encode(DialResponse(Status.REJECTED)))
                return
            self._busy.add(stream.peer_id)
            try:
                request = autonat.decode(await read_body(stream))
                if not isinstance(request, DialRequest):
                    raise RemoteProtocolError("an AutoNAT stream begins with a request")
                await stream.send_all(autonat.encode(await self._serve(stream, request)))
            finally:
                self._busy.discard(stream.peer_id)
        if scope.cancelled_caught:
            await stream.reset()

    def _may_ask(self, peer_id: str) -> bool:
        now = trio.current_time()
        own = self._each.pop(peer_id, None) or Bucket(A_MINUTE_PER_PEER, A_MINUTE_PER_PEER / 60)
        self._each[peer_id] = own
        if len(self._each) > _PEERS:
            self._each.popitem(last=False)
        if peer_id in self._busy or len(self._busy) >= AT_ONCE or not own.take(now):
            return False
        return self._all.take(now)

    async def _serve(self, stream: Stream, request: DialRequest) -> DialResponse:
        index = next((at for at, address in enumerate(request.addresses) if self._willing(address)), None)
        if index is None:
            return DialResponse(Status.DIAL_REFUSED)
        address = request.addresses[index]
        seen = {multiaddr.ip_of(c.address) for c in self._switch.connections() if c.peer_id == stream.peer_id}
        if multiaddr.ip_of(address) not in seen:
            await self._take_data(stream, index)
        return DialResponse(Status.OK, index, await self._dial_back(stream.peer_id, address, request.nonce))

    def _willing(self, address: str) -> bool:
        """An IP address that means the same to us, of a family that we have."""
        ip = multiaddr.ip_of(address)
        if ip is None or not multiaddr.dialable(address) or not self._public(address):
            return False
        own = {mine.version for a in self._switch.listen_addresses() if (mine := multiaddr.ip_of(a)) is not None}
        return ip.version in own

    async def _take_data(self, stream: Stream, index: int) -> None:
        left = self._rng.randint(autonat.LEAST_DATA, autonat.MOST_DATA)
        await stream.send_all(autonat.encode(DialDataRequest(index, left)))
        while left > 0:
            part = autonat.decode(await read_body(stream))
            if not isinstance(part, DialDataResponse) or not part.data:
                raise RemoteProtocolError("an AutoNAT client sends no data")
            left -= len(part.data)

    async def _dial_back(self, peer_id: str, address: str, nonce: int) -> DialStatus:
        """On a connection of its own, which ends with it."""
        status = DialStatus.DIAL_ERROR
        try:
            with trio.fail_after(BACK_SECONDS):
                upgraded = await self._switch.dial_aside(peer_id, address)
                status = DialStatus.DIAL_BACK_ERROR
                if await _say(upgraded, nonce):
                    status = DialStatus.OK
        except (RemoteError, ProtocolError, trio.BrokenResourceError, trio.TooSlowError) as error:
            _log.debug("%s was not reached at %s: %s", peer_id, address, error)
        return status


async def _say(upgraded: Upgraded, nonce: int) -> bool:
    """Says the nonce and waits until it was taken."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(upgraded.muxer.run)
        try:
            muxed = await upgraded.muxer.open()
            if await negotiate.propose(muxed, [autonat.DIAL_BACK]) is None:
                return False
            await muxed.send_all(autonat.encode_dial_back(nonce))
            await muxed.receive_some(16)
            await muxed.aclose()
            return True
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.5):
                await upgraded.muxer.aclose()
            nursery.cancel_scope.cancel()
