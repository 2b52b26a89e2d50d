"""identify: who we are, where we listen and what we speak, to a peer that asks; and the same asked of it.

/ipfs/id/1.0.0 and /ipfs/id/push/1.0.0 of github.com/libp2p/specs, identify. The message is a protobuf behind its
length as a varint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from p2pshare.net import libp2p_edge
from p2pshare.net.api import Stream
from p2pshare_protocols import multiaddr, varint
from p2pshare_protocols.errors import RemoteProtocolError

PROTOCOL = "/ipfs/id/1.0.0"
PUSH = "/ipfs/id/push/1.0.0"
MAX_MESSAGE = 65536  # bytes; go-libp2p sends at most 8 KiB unsigned, and a signed record behind
MAX_PROTOCOLS = 128
MAX_ADDRESSES = 32
_MAX_TEXT = 256  # characters of a name; longer ones are left out
_MAX_AGENT = 128
_VERSION = "ipfs/0.1.0"


@dataclass(frozen=True, slots=True)
class Identified:
    """What a peer says of itself. Nothing in it is proven."""

    agent: str
    protocols: frozenset[str]
    listen_addresses: tuple[str, ...]
    observed: str | None  # where the peer sees us


def encode(
    *, public_key: bytes, agent: str, listen: Sequence[str], protocols: Sequence[str], observed: str | None
) -> bytes:
    """Our message, with its length. `public_key` is libp2p's encoding; addresses are multiaddrs without /p2p."""
    message = libp2p_edge.Identify(
        public_key=public_key,
        protocol_version=_VERSION,
        agent_version=agent,
        listen_addrs=[multiaddr.to_binary(address) for address in listen[:MAX_ADDRESSES]],
        protocols=list(protocols),
    )
    if observed is not None:
        message.observed_addr = multiaddr.to_binary(observed)
    body: bytes = message.SerializeToString()
    return varint.encode(len(body)) + body


def decode(body: bytes) -> Identified:
    """Raises RemoteProtocolError. What is too much, or no multiaddr that we know, is left out."""
    message = libp2p_edge.Identify()
    try:
        message.ParseFromString(body)
    except libp2p_edge.DecodeError:
        raise RemoteProtocolError("an identify message is no protobuf") from None
    observed = _addresses([message.observed_addr])
    return Identified(
        agent=_text(message.agent_version)[:_MAX_AGENT],
        protocols=frozenset(map(_text, message.protocols[:MAX_PROTOCOLS])) - {""},
        listen_addresses=tuple(_addresses(message.listen_addrs[:MAX_ADDRESSES])),
        observed=observed[0] if observed else None,
    )


def _text(told: str | bytes) -> str:
    """A text as it is when it can be shown, "" when not: protobuf gives bytes where it is not UTF-8."""
    return told if isinstance(told, str) and told.isprintable() and len(told) <= _MAX_TEXT else ""


def _addresses(binaries: Sequence[bytes]) -> list[str]:
    found = []
    for binary in binaries:
        try:
            found.append(multiaddr.split_peer(multiaddr.to_text(binary))[0])
        except RemoteProtocolError:
            continue
    return found


async def read(stream: Stream) -> Identified:
    """Receives one message. Raises RemoteProtocolError, trio.BrokenResourceError. The caller bounds the time."""
    head = b""
    while not head or head[-1] > 127:
        head += await stream.receive_exactly(1)
        if len(head) > varint.MAX_BYTES:
            raise RemoteProtocolError("an identify message has an impossible length")
    length, _ = varint.decode(head)
    if length > MAX_MESSAGE:
        raise RemoteProtocolError("an identify message is too long")
    return decode(await stream.receive_exactly(length))


async def answer(stream: Stream, message: bytes) -> None:
    """Sends our message and closes."""
    with trio.move_on_after(10):
        await stream.send_all(message)
        await stream.aclose()
