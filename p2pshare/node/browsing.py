"""Which peer somebody means who names one."""

from __future__ import annotations

from typing import Final

import trio

from p2pshare.dht import DHT
from p2pshare.errors import TimedOut, UsageError
from p2pshare.net.api import Network
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.peerid import check_peer_id
from p2pshare_protocols.text import clean

_LEAST: Final = 4  # characters that name a connected peer


async def find(text: str, net: Network, dht: DHT, timeout: float) -> str:
    """The peer ID that `text` names: one, a multiaddr (which is dialled), or a beginning or end of a connected peer's.

    A peer of which no address is known is looked for in the DHT. Raises UsageError, Unreachable, TimedOut.
    """
    if text.startswith("/"):
        return await net.connect(text, timeout=timeout)
    connected = dict.fromkeys(info.peer_id for info in net.peers())
    meant = [one for one in connected if len(text) >= _LEAST and (one.startswith(text) or one.endswith(text))]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UsageError(f"{len(meant)} connected peers are called so", hint="Give more of the peer ID.")
    try:
        peer_id = check_peer_id(text)
    except RemoteProtocolError as error:
        raise UsageError(
            f"{clean(text, limit=100)} is neither a peer ID nor part of a connected peer's: {error}",
            hint="p2pshare peers lists who is connected.",
        ) from None
    if not net.addresses_of(peer_id):
        try:
            with trio.fail_after(timeout):
                net.add_addresses(peer_id, await dht.find_peer(peer_id))
        except trio.TooSlowError:
            raise TimedOut("where that peer is could not be found out in time") from None
    return peer_id
