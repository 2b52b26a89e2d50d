"""What a running fetch keeps in its job, so that the next run of the daemon goes on from there."""

from __future__ import annotations

import os
from typing import Any

import msgpack

from p2pshare.exchange.layout import Layout
from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.cid import CID


def save(root: CID, to: str, only: str | None, part: str, done: Bitmap) -> bytes:
    state = {
        "root": root.binary,
        "to": to.encode("utf-8", "surrogateescape"),
        "part": part.encode("utf-8", "surrogateescape"),
        "only": only,
        "pieces": done.size,
        "done": done.to_bytes(),
    }
    packed: bytes = msgpack.packb(state)
    return packed


def part_of(saved: bytes) -> str:
    """Where an unfinished fetch has written, from what it saved: an absolute path."""
    state: dict[str, Any] = msgpack.unpackb(saved)
    to, part = (state[key].decode("utf-8", "surrogateescape") for key in ("to", "part"))
    return f"{os.path.dirname(to)}/{os.path.basename(part)}"


def load(saved: bytes | None, root: CID, to: str, only: str | None) -> dict[str, Any] | None:
    """What an earlier run of this job saved; None when it was about something else."""
    if saved is None:
        return None
    state: dict[str, Any] = msgpack.unpackb(saved)
    same = (root.binary, to.encode("utf-8", "surrogateescape"), only)
    if (state["root"], state["to"], state["only"]) != same:
        return None
    return {**state, "part": state["part"].decode("utf-8", "surrogateescape")}


def done_of(state: dict[str, Any] | None, layout: Layout) -> Bitmap:
    if state is None or state["pieces"] != layout.pieces:
        return Bitmap(layout.pieces)
    return Bitmap.from_bytes(state["done"], layout.pieces)
