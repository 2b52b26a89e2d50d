"""python -m tests.network.attack NAME ADDRESS OPTIONS: one attack on ADDRESS, in a process of its own.

It prints {"ready": …} when the attack stands and {"done": …} when it has run, then holds what it has open until stdin
ends. OPTIONS is JSON: "count", "source" (an address of loopback to come from), "seconds", "protocol".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from p2pshare.errors import RemoteError
from p2pshare.net import ping
from p2pshare.net.own import own_muxers, own_sessions
from p2pshare.net.upgrade import Upgraded, Upgrader
from p2pshare_protocols import multiaddr, varint
from p2pshare_protocols.multistream import encode
from p2pshare_protocols.yamux_frames import DATA, GO_AWAY, HEADER, RST, SYN, WINDOW_UPDATE, frame, unpack_from
from tests.fuzz.mutations import mutations
from tests.network.victim import FLOODS, HOLDS, RAISES
from tests.support_net import key_pair

GREETING = encode("/multistream/1.0.0")
BAD_NAMES = (b"\x03\xff\xfe\n", GREETING + b"\x03\xff\xfe\n", GREETING + b"\x05/\xc3\x28\xed\n")
NOISE_FIRST = b"\x00\x20" + bytes(range(1, 33))
_MUXERS = own_muxers()
_LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, RemoteError, trio.EndOfChannel)


class Attack:
    """What every attack is given."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        plain, peer = multiaddr.split_peer(address)
        assert peer is not None
        parts = plain.split("/")
        self.host, self.port, self.peer = parts[2], int(parts[4]), peer
        self.count: int = options.get("count", 1)
        self.source: str = options.get("source", "127.0.0.1")
        self.seconds: float = options.get("seconds", 1.0)
        self.protocol: str = options.get("protocol", FLOODS)
        self.kept: list[trio.abc.AsyncResource] = []

    async def bare(self, source: str | None = None) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.host, self.port, local_address=source or self.source)

    async def secured(self, number: int = 2) -> Upgraded:
        upgrader = Upgrader(own_sessions(key_pair(number)), _MUXERS)
        return await upgrader.outbound(await self.bare(), self.peer)

    @asynccontextmanager
    async def muxed(self, number: int = 2) -> AsyncIterator[Upgraded]:
        upgraded = await self.secured(number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upgraded.muxer.run)
            try:
                yield upgraded
            finally:
                await upgraded.muxer.aclose()
                nursery.cancel_scope.cancel()


def ready(**told: object) -> None:
    print(json.dumps({"ready": told}), flush=True)


async def bad_names_bare(attack: Attack) -> dict[str, Any]:
    """Names that are not UTF-8, before any handshake."""
    for number in range(attack.count):
        with suppress(*_LOST):
            async with await attack.bare() as stream:
                await stream.send_all(BAD_NAMES[number % len(BAD_NAMES)])
                await stream.send_eof()
                async for _ in stream:
                    pass
    return {"sent": attack.count}


async def bad_names_inside(attack: Attack) -> dict[str, Any]:
    """The same on streams of a connection that is secured."""
    broken = 0
    async with attack.muxed() as upgraded:
        for number in range(attack.count):
            stream = await upgraded.muxer.open()
            await stream.send_all(BAD_NAMES[number % len(BAD_NAMES)])
            try:
                while await stream.receive_some(4096):
                    pass
            except trio.BrokenResourceError:
                broken += 1
            await stream.aclose()
    return {"broken": broken}


async def raising(attack: Attack) -> dict[str, Any]:
    """Streams to a handler that raises, whatever comes."""
    broken = 0
    async with attack.muxed() as upgraded:
        for _ in range(attack.count):
            stream = await upgraded.muxer.open()
            await stream.send_all(GREETING + encode(RAISES))
            try:
                while await stream.receive_some(4096):
                    pass
            except trio.BrokenResourceError:
                broken += 1
            await stream.aclose()
    return {"broken": broken}


async def one_after_another(attack: Attack) -> dict[str, Any]:
    """Whole connections, each with a ping that is answered, each by another peer."""
    answered = 0
    expected = GREETING + encode(ping.PROTOCOL) + bytes(32)
    for number in range(attack.count):
        with suppress(*_LOST):
            async with attack.muxed(number + 100) as upgraded:
                stream = await upgraded.muxer.open()
                await stream.send_all(GREETING + encode(ping.PROTOCOL) + bytes(32))
                answered += await stream.receive_exactly(len(expected)) == expected
    return {"answered": answered}


async def silent(attack: Attack) -> dict[str, Any]:
    """Connections that say nothing; each that is dropped is opened again, for `seconds`."""
    return await _half_open(attack, [attack.source] * attack.count, b"")


async def mid_handshake(attack: Attack) -> dict[str, Any]:
    """Connections that stop after the first message of the handshake."""
    return await _half_open(attack, [attack.source] * attack.count, GREETING + encode("/noise") + NOISE_FIRST)


async def many_addresses(attack: Attack) -> dict[str, Any]:
    """As `silent`, from 125 addresses in as many networks, eight connections each."""
    return await _half_open(attack, [f"127.0.{1 + n % 125}.7" for n in range(attack.count)], b"")


async def _half_open(attack: Attack, sources: list[str], said: bytes) -> dict[str, Any]:
    opened = 0
    room = trio.CapacityLimiter(32)  # under way at once, or our own kernel makes them wait

    async def keep(source: str) -> None:
        nonlocal opened
        while True:
            with suppress(*_LOST):
                async with room:
                    stream = await attack.bare(source)
                    opened += 1
                async with stream:
                    if said:
                        await stream.send_all(said)
                    while await stream.receive_some(4096):
                        pass
            await trio.sleep(0.5)

    with trio.move_on_after(attack.seconds):
        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(keep, source)
            while opened < len(sources):
                await trio.sleep(0.01)
            ready(opened=opened)
    return {"opened": opened}


async def handshakes(attack: Attack) -> dict[str, Any]:
    """Whole handshakes, as fast as one core can make them, for `seconds`."""
    made = 0

    async def make(number: int) -> None:
        nonlocal made
        while True:
            with suppress(*_LOST):
                upgraded = await attack.secured(number)
                made += 1
                await upgraded.secure.abort()

    ready()
    with trio.move_on_after(attack.seconds):
        async with trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(make, number + 50)
    return {"made": made}


async def resets(attack: Attack) -> dict[str, Any]:
    """Streams opened, given a protocol and reset at once, as fast as can be (CVE-2023-44487's way)."""
    upgraded = await attack.secured()
    sent, said = 0, GREETING + encode(ping.PROTOCOL) + bytes(32)
    reason: list[int | str] = []
    ready()

    async def read() -> None:
        reason.append(await _went_away(upgraded))

    with trio.move_on_after(attack.seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with suppress(*_LOST):
                for id in range(1, 2 * attack.count, 2):
                    opened = frame(DATA, SYN, id, len(said)) + said + frame(WINDOW_UPDATE, RST, id, 0)
                    await upgraded.secure.send_all(opened)
                    sent += 1
    return {"sent": sent, "reason": reason[0] if reason else "none"}


async def ignore_window(attack: Attack) -> dict[str, Any]:
    """Data without end on one stream whose window is never respected."""
    part = bytes(1 << 16)
    opening = frame(DATA, SYN, 1, len(GREETING + encode(HOLDS))) + GREETING + encode(HOLDS)
    return await _violate(attack, opening, (frame(DATA, 0, 1, len(part)) + part for _ in range(attack.count)))


async def hoard_streams(attack: Attack) -> dict[str, Any]:
    """Ten thousand streams opened and never used."""
    return await _violate(attack, b"", (frame(WINDOW_UPDATE, SYN, 2 * n + 1, 0) for n in range(attack.count)))


async def announce_much(attack: Attack) -> dict[str, Any]:
    """Frames of 16 MiB announced, on streams of the first window."""
    frames = (frame(DATA, SYN, 2 * n + 1, 16 << 20) for n in range(attack.count))
    return await _violate(attack, b"", frames)


async def never_opened(attack: Attack) -> dict[str, Any]:
    """Frames for streams that nobody opened."""
    return await _violate(attack, b"", (frame(DATA, 0, 2 * n + 1001, 0) for n in range(attack.count)))


async def _violate(attack: Attack, opening: bytes, frames: Any) -> dict[str, Any]:
    upgraded = await attack.secured()
    with suppress(*_LOST):
        await upgraded.secure.send_all(opening)
        for one in frames:
            await upgraded.secure.send_all(one)
    with trio.move_on_after(10):
        return {"reason": await _went_away(upgraded)}
    return {"reason": "none"}


async def _went_away(upgraded: Upgraded) -> int | str:
    """The code of the peer's GO_AWAY; "lost" when the connection ended without."""
    received = b""
    try:
        while data := await upgraded.secure.receive_some(1 << 16):
            received += bytes(data)
            while len(received) >= HEADER:
                _, kind, _, _, length = unpack_from(memoryview(received), 0)
                if kind == GO_AWAY:
                    return length
                received = received[HEADER + (length if kind == DATA else 0) :]
    except _LOST:
        pass
    return "lost"


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
        await upgraded.secure.send_all(b"".join(frame(DATA, SYN, id, len(said)) + said for id in range(1, 513, 2)))
    await trio.sleep(1)
    ready()
    return {}


async def connections(attack: Attack) -> dict[str, Any]:
    """Bare connections that are only opened, all at once; how many still stand after `seconds`."""
    opened = 0
    for _ in range(attack.count):
        with suppress(OSError):
            attack.kept.append(await attack.bare())
            opened += 1
    ready(opened=opened)
    return {"opened": opened}


_SAID = {  # what speaks a protocol well enough to be mutated
    "/p2pshare/exchange/1.0.0": "exchange_messages",
    "/p2pshare/index/1.0.0": "index_messages",
    "/p2pshare/kad/1.0.0": "kad_messages",
    "/ipfs/id/push/1.0.0": "identify",
    "/ipfs/ping/1.0.0": "noise",
}


async def mutants_bare(attack: Attack) -> dict[str, Any]:
    """Mutations of a negotiation and the first message of a handshake, for `seconds`."""
    whole = GREETING + encode("/noise") + NOISE_FIRST
    tls = GREETING + encode("/tls/1.0.0") + bytes.fromhex("160301007a010000760303") + bytes(64)
    sent = 0
    with trio.move_on_after(attack.seconds):
        for data in mutations((whole, tls, GREETING + GREETING), count=10**9, seed=int(attack.seconds)):
            with suppress(*_LOST), trio.move_on_after(1):
                async with await attack.bare() as stream:
                    await stream.send_all(data)
                    await stream.send_eof()
                    async for _ in stream:
                        pass
            sent += 1
    return {"sent": sent}


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
            with suppress(*_LOST):
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
            with suppress(*_LOST):
                upgraded = await attack.secured()
                for _ in range(20):
                    await upgraded.secure.send_all(next(frames))
                    sent += 1
                await upgraded.secure.abort()
    return {"sent": sent}


ATTACKS: dict[str, Callable[[Attack], Awaitable[dict[str, Any]]]] = {
    attack.__name__: attack
    for attack in (
        bad_names_bare,
        bad_names_inside,
        raising,
        one_after_another,
        silent,
        mid_handshake,
        many_addresses,
        handshakes,
        resets,
        ignore_window,
        hoard_streams,
        announce_much,
        never_opened,
        never_read,
        connections,
        hoard_pings,
        mutants_bare,
        mutants_inside,
    )
}


async def main(name: str, address: str, options: dict[str, Any]) -> None:
    attack = Attack(address, options)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            print(json.dumps({"done": await ATTACKS[name](attack)}), flush=True)

        nursery.start_soon(run)
        async with trio.lowlevel.FdStream(os.dup(0)) as told:
            while await told.receive_some(4096):
                pass
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
