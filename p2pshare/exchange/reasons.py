"""What a fetch waits for, in words."""

from __future__ import annotations

from typing import Final

import trio

from p2pshare.exchange.download import Download
from p2pshare.exchange.finder import Finder
from p2pshare.exchange.structure import Structure
from p2pshare.exchange.swarm import Swarm

BAN_TOLD: Final = 10.0  # seconds for which a ban is told while nothing else is to be told


def reason_of(swarm: Swarm, finder: Finder, structure: Structure, download: Download | None) -> str | None:
    """ "" when it waits for nothing; None: leave what was said last."""
    if download is not None and not download.left:
        return None
    if swarm.sources:
        return _with_sources(swarm, structure, download)
    if swarm.asking():
        return f"asking {swarm.asking()} peers for the content"
    if finder.searching:
        return "looking for sources"
    now = trio.current_time()
    tries = [finder.again_at - now if finder.again_at > now else 30.0]
    if (soon := swarm.next_try()) is not None:
        tries.append(soon)
    return f"no source answered; still looking, retry in {max(1, round(min(tries)))} s"


def _with_sources(swarm: Swarm, structure: Structure, download: Download | None) -> str | None:
    count = len(swarm.sources)
    sources = f"{count} source{'s' if count != 1 else ''}"
    if download is None:
        return f"{sources}, none has what is missing; still looking" if structure.stuck else None
    if download.queue:
        return f"{sources}, choked: queue place {download.queue}"
    if not download.stuck:
        return _ban(swarm) if download.active() else f"{sources}, waiting for an answer"
    if download.silent:
        return f"{sources} gone silent; trying to reach {'them' if count > 1 else 'it'} anew"
    return f"{sources}, none has what is missing; still looking"


def _ban(swarm: Swarm) -> str:
    if trio.current_time() - swarm.banned_at > BAN_TOLD:
        return ""
    return f"{list(swarm.banned.values())[-1].message}; it is not asked again"
