"""Shared by the tests of the catalogue and of what stands on it."""

from __future__ import annotations

from p2pshare.store import ItemDraft, SourceFile
from p2pshare_protocols.cid import CID, DAG_PB, RAW


def raw_cid(text: str) -> CID:
    return CID.of(RAW, text.encode("utf-8", "surrogateescape"))


def draft(name: str = "raft.mp4", **changes: object) -> ItemDraft:
    values: dict[str, object] = {
        "cid": CID.of(DAG_PB, name.encode("utf-8", "surrogateescape")),
        "name": name,
        "size": 1000,
        "path": f"/home/me/{name}",
    }
    return ItemDraft(**{**values, **changes})  # type: ignore[arg-type]


def source(path: str = "/home/me/raft.mp4", **changes: int) -> SourceFile:
    return SourceFile(path, **{"size": 1000, "inode": 7, "mtime_ns": 1_700_000_000_000_000_001, **changes})
