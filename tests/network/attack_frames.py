"""Attacks by the muxer's frames: its windows, its counts, its resets."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import trio

from p2pshare.net import ping
from p2pshare.net.upgrade import Upgraded
from p2pshare_protocols.multistream import encode
from p2pshare_protocols.yamux_frames import DATA, GO_AWAY, HEADER, RST, SYN, WINDOW_UPDATE, frame, unpack_from
from tests.network.attacker import GREETING, LOST, Attack, ready
from tests.network.victim import HOLDS


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
            with suppress(*LOST):
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


async def _violate(attack: Attack, opening: bytes, frames: Iterable[bytes]) -> dict[str, Any]:
    upgraded = await attack.secured()
    with suppress(*LOST):
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
    except LOST:
        pass
    return "lost"
