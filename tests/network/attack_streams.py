"""Attacks by handlers' streams, on connections that are properly secured."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio

from p2pshare.net import ping
from p2pshare.net.layers import MuxedStream
from p2pshare.net.upgrade import Upgraded
from p2pshare_protocols import varint
from p2pshare_protocols.multistream import encode
from p2pshare_protocols.yamux_frames import ACK, DATA, HEADER, PING, SYN, WINDOW_UPDATE, frame, unpack_from
from tests.fuzz.mutations import mutations
from tests.network.attacker import BAD_NAMES, GREETING, LOST, Attack, ready
from tests.network.victim import RAISES


async def _breaks(stream: MuxedStream) -> bool:
    """Whether a stream is reset; read until it is, or ends, then closed."""
    try:
        while await stream.receive_some(4096):
            pass
    except trio.BrokenResourceError:
        return True
    finally:
        await stream.aclose()
    return False


async def bad_names_inside(attack: Attack) -> dict[str, Any]:
    """The same on streams of a connection that is secured."""
    broken = 0
    async with attack.muxed() as upgraded:
        for number in range(attack.count):
            stream = await upgraded.muxer.open()
            await stream.send_all(BAD_NAMES[number % len(BAD_NAMES)])
            broken += await _breaks(stream)
    return {"broken": broken}


async def raising(attack: Attack) -> dict[str, Any]:
    """Streams to a handler that raises, whatever comes."""
    broken = 0
    async with attack.muxed() as upgraded:
        for _ in range(attack.count):
            stream = await upgraded.muxer.open()
            await stream.send_all(GREETING + encode(RAISES))
            broken += await _breaks(stream)
    return {"broken": broken}


async def one_after_another(attack: Attack) -> dict[str, Any]:
    """Whole connections, each with a ping that is answered, each by another peer."""
    answered = 0
    expected = GREETING + encode(ping.PROTOCOL) + bytes(32)
    for number in range(attack.count):
        with suppress(*LOST):
            async with attack.muxed(number + 100) as upgraded:
                stream = await upgraded.muxer.open()
                await stream.send_all(GREETING + encode(ping.PROTOCOL) + bytes(32))
                answered += await stream.receive_exactly(len(expected)) == expected
    return {"answered": answered}


async def never_read(attack: Attack) -> dict[str, Any]:
    """Peers that ask for much (of the victim's flood, or of pings) and read nothing of it."""
    for number in range(attack.count):
        upgraded = await attack.secured(number + 100)
        said = GREETING + encode(attack.protocol)
        opened = frame(DATA, SYN, 1, len(said)) + said + frame(WINDOW_UPDATE, 0, 1, 1 << 30)
        asked = frame(DATA, 0, 1, 1 << 16) + bytes(1 << 16)
        await upgraded.secure.send_all(opened + asked * (3 if attack.protocol == ping.PROTOCOL else 0))
        attack.kept.append(upgraded)  # type: ignore[arg-type]
    ready()
    return {}


async def hoard_pings(attack: Attack) -> dict[str, Any]:
    """On each of `count` connections 256 streams of ping, one ping on each, and no more."""
    said = GREETING + encode(ping.PROTOCOL) + bytes(32)
    for number in range(attack.count):
        upgraded = await attack.secured(number + 100)
        attack.kept.append(upgraded)  # type: ignore[arg-type]
        opened = b"".join(frame(DATA, SYN, id, len(said)) + said for id in range(1, 513, 2))
        await upgraded.secure.send_all(opened + frame(PING, SYN, 0, number))
        with suppress(*LOST):
            await _pinged(upgraded)
    ready()
    return {}


async def _pinged(upgraded: Upgraded) -> None:
    """Waits for the answer to a ping of the muxer: what was sent before it has been taken by then."""
    received = b""
    while data := await upgraded.secure.receive_some(1 << 16):
        received += bytes(data)
        while len(received) >= HEADER:
            _, kind, flags, _, length = unpack_from(memoryview(received), 0)
            if kind == PING and flags & ACK:
                return
            received = received[HEADER + (length if kind == DATA else 0) :]


_SAID = {  # what speaks a protocol well enough to be mutated
    "/p2pshare/exchange/1.0.0": "exchange_messages",
    "/p2pshare/index/1.0.0": "index_messages",
    "/p2pshare/kad/1.0.0": "kad_messages",
    "/ipfs/id/push/1.0.0": "identify",
    "/ipfs/ping/1.0.0": "noise",
}


async def mutants_inside(attack: Attack) -> dict[str, Any]:
    """Mutated messages of each protocol on streams of secured connections, and mutated frames, for `seconds`."""
    from tests.fuzz.targets import TARGETS

    sent = 0
    frames = mutations(TARGETS["yamux"].seeds, count=10**9, seed=2)
    kinds = {
        name: mutations(
            [len(s).to_bytes(4, "big") + s for s in seeds] + [varint.encode(len(s)) + s for s in seeds],
            count=10**9,
            seed=3,
        )
        for name, seeds in ((name, TARGETS[target].seeds) for name, target in _SAID.items())
    }
    with trio.move_on_after(attack.seconds):
        while True:
            with suppress(*LOST):
                async with attack.muxed() as upgraded:
                    for _ in range(20):
                        for name, said in kinds.items():
                            with suppress(trio.BrokenResourceError), trio.move_on_after(0.05):
                                async with await upgraded.muxer.open() as stream:
                                    await stream.send_all(GREETING + encode(name) + next(said))
                                    await stream.send_eof()
                                    while await stream.receive_some(4096):
                                        pass
                            sent += 1
            with suppress(*LOST):
                upgraded = await attack.secured()
                for _ in range(20):
                    await upgraded.secure.send_all(next(frames))
                    sent += 1
                await upgraded.secure.abort()
    return {"sent": sent}
