"""Attacks before a session stands: names, half-open connections, handshakes, broken bytes to the port."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio

from p2pshare_protocols.multistream import encode
from tests.fuzz.mutations import mutations
from tests.network.attacker import BAD_NAMES, GREETING, LOST, Attack, ready

NOISE_FIRST = b"\x00\x20" + bytes(range(1, 33))


async def bad_names_bare(attack: Attack) -> dict[str, Any]:
    """Names that are not UTF-8, before any handshake."""
    for number in range(attack.count):
        with suppress(*LOST):
            async with await attack.bare() as stream:
                await stream.send_all(BAD_NAMES[number % len(BAD_NAMES)])
                await stream.send_eof()
                async for _ in stream:
                    pass
    return {"sent": attack.count}


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
    opened, stands = 0, trio.Event()
    room = trio.CapacityLimiter(32)  # under way at once, or our own kernel makes them wait

    async def keep(source: str) -> None:
        nonlocal opened
        while True:
            with suppress(*LOST):
                async with room:
                    stream = await attack.bare(source)
                    opened += 1
                    if opened == len(sources):
                        stands.set()
                async with stream:
                    if said:
                        await stream.send_all(said)
                    while await stream.receive_some(4096):
                        pass
            await trio.sleep(0.5)  # the attack's own pace

    with trio.move_on_after(attack.seconds):
        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(keep, source)
            await stands.wait()
            ready(opened=opened)
    return {"opened": opened}


async def handshakes(attack: Attack) -> dict[str, Any]:
    """Whole handshakes, as fast as one core can make them, for `seconds`."""
    made = 0

    async def make(number: int) -> None:
        nonlocal made
        while True:
            with suppress(*LOST):
                upgraded = await attack.secured(number)
                made += 1
                await upgraded.secure.abort()

    ready()
    with trio.move_on_after(attack.seconds):
        async with trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(make, number + 50)
    return {"made": made}


async def connections(attack: Attack) -> dict[str, Any]:
    """Bare connections that are only opened, all at once; how many still stand after `seconds`."""
    opened = 0
    for _ in range(attack.count):
        with suppress(OSError):
            attack.kept.append(await attack.bare())
            opened += 1
    ready(opened=opened)
    return {"opened": opened}


async def mutants_bare(attack: Attack) -> dict[str, Any]:
    """Mutations of a negotiation and the first message of a handshake, for `seconds`."""
    whole = GREETING + encode("/noise") + NOISE_FIRST
    tls = GREETING + encode("/tls/1.0.0") + bytes.fromhex("160301007a010000760303") + bytes(64)
    sent = 0
    with trio.move_on_after(attack.seconds):
        for data in mutations((whole, tls, GREETING + GREETING), count=10**9, seed=int(attack.seconds)):
            with suppress(*LOST), trio.move_on_after(1):
                async with await attack.bare() as stream:
                    await stream.send_all(data)
                    await stream.send_eof()
                    async for _ in stream:
                        pass
            sent += 1
    return {"sent": sent}
