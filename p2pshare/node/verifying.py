"""`verify`: every byte that is shared or was fetched is read again and compared with its CID."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import trio

from p2pshare.content.files import open_regular
from p2pshare.store import Item, SourceFile, Store
from p2pshare_protocols.cid import CID
from p2pshare_protocols.errors import RemoteProtocolError

Read = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Damage:
    """One file, or a kept block, that is not what its CID says. `bytes`: how many are wrong or gone."""

    path: str
    state: Literal["changed", "missing"]
    bytes: int


async def verify(store: Store, item: Item, read: Read, now: float) -> list[Damage]:
    """Read all of an item; what is wrong is noted in the catalogue, so that it is not served. `read` hears of bytes."""
    found: list[Damage] = []
    for file in store.references.files_of(item.id):
        chunks = store.references.chunks_of(file.id)
        damage = await trio.to_thread.run_sync(_compare, file, chunks)
        if damage is None:
            store.references.set_verified(file.id, now)
        else:
            store.references.mark_file(file.id, damage.state)
            found.append(damage)
        await read(file.size)
    for binary in store.blocks.cids_of(item.id):
        await trio.lowlevel.checkpoint()
        block = store.blocks.get(binary)
        if block is not None and not _matches(binary, block):
            store.blocks.remove([binary])
            found.append(Damage(f"block {CID.from_binary(binary)}", "changed", len(block)))
    return found


def _compare(file: SourceFile, chunks: Sequence[tuple[bytes, int, int]]) -> Damage | None:
    """In a worker thread: one file with its chunks."""
    wrong = 0
    try:
        descriptor, status = open_regular(file.path)
    except FileNotFoundError:
        return Damage(file.path, "missing", file.size)
    except OSError:
        return Damage(file.path, "changed", file.size)
    try:
        for binary, offset, length in chunks:
            data = os.pread(descriptor, length, offset)
            if len(data) != length or not _matches(binary, data):
                wrong += length
    except OSError:
        wrong = file.size
    finally:
        os.close(descriptor)
    return Damage(file.path, "changed", wrong) if wrong or status.st_size != file.size else None


def _matches(binary: bytes, data: bytes) -> bool:
    try:
        return CID.from_binary(binary).matches(data)
    except RemoteProtocolError:
        return False
