"""For tests of content: Kubo's vectors, the content they describe, a CAR reader, a DAG in a dictionary."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from p2pshare_protocols import builder, dagpb, varint
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.unixfs import Mtime

VECTORS = Path(__file__).parent / "vectors"
Blocks = dict[CID, bytes]


def vectors() -> dict[str, dict[str, Any]]:
    document = json.loads((VECTORS / "kubo.json").read_text(encoding="utf-8"))
    return {vector["name"]: vector for vector in document["vectors"]}


def keystream(size: int, piece: int = 1 << 20) -> Iterator[bytes]:
    """AES-128-CTR of zeros under the key 00 01 … 0f, counter from 0: the vectors' pseudo-random content."""
    encryptor = Cipher(algorithms.AES(bytes(range(16))), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(piece)
    while size > 0:
        yield encryptor.update(zeros[: min(piece, size)])
        size -= piece


def content(recipe: dict[str, Any]) -> bytes:
    """The bytes of a small recipe: text, hex or keystream."""
    if "text" in recipe:
        return str(recipe["text"]).encode()
    if "hex" in recipe:
        return bytes.fromhex(recipe["hex"])
    if "keystream" in recipe:
        return b"".join(keystream(int(recipe["keystream"])))
    raise KeyError(f"no content in {recipe}")


def files_of(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """All entries of a directory's recipe, the generated ones first."""
    generate = recipe.get("generate")
    made = []
    if generate:
        for i in range(generate["count"]):
            text = generate["content"]
            made.append({"path": generate["name"] % i, "text": text % i if "%" in text else text})
    return made + list(recipe.get("entries", []))


def write_tree(recipe: dict[str, Any], where: Path) -> None:
    """Lay a directory's recipe out on disk under `where`, which is made."""
    where.mkdir()
    for entry in files_of(recipe):
        path = where / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.get("dir"):
            path.mkdir(exist_ok=True)
        elif "symlink" in entry:
            path.symlink_to(entry["symlink"])
        else:
            path.write_bytes(content(entry))


def build_file(data: bytes, profile: builder.Profile, blocks: Blocks, **metadata: Any) -> builder.Built:
    """The DAG of a file, all its blocks (leaves too) put into `blocks`."""
    maker = builder.FileBuilder(profile, **metadata)
    for at in range(0, len(data), profile.chunk_size):
        chunk = data[at : at + profile.chunk_size]
        if profile.raw_leaves:
            blocks[CID.of(RAW, chunk, profile.hash)] = chunk
        blocks.update(maker.add_chunk(chunk))
    root, rest = maker.finish()
    blocks.update(rest)
    if not data and profile.raw_leaves:
        blocks[root.cid] = b""
    return root


def build_recipe(recipe: dict[str, Any], profile: builder.Profile, blocks: Blocks, *, hidden: bool) -> builder.Built:
    """The DAG of a vector's recipe in memory."""
    mode = int(recipe["mode"], 8) if "mode" in recipe else None
    mtime = Mtime(recipe["mtime"]) if "mtime" in recipe else None
    if "symlink" in recipe:
        root, block = builder.build_symlink(recipe["symlink"].encode(), profile)
        blocks.update([block])
        return root
    if "entries" not in recipe:
        return build_file(content(recipe), profile, blocks, mode=mode, mtime=mtime)
    tree: dict[str, Any] = {}
    for entry in files_of(recipe):
        *parents, name = entry["path"].split("/")
        if not hidden and any(part.startswith(".") for part in (*parents, name)):
            continue
        place = tree
        for part in parents:
            place = place.setdefault(part, {})
        if entry.get("dir"):
            place.setdefault(name, {})
        else:
            place[name] = build_recipe(entry, profile, blocks, hidden=hidden)
    return _build_tree(tree, profile, blocks)


def _build_tree(tree: dict[str, Any], profile: builder.Profile, blocks: Blocks) -> builder.Built:
    links = []
    for name, what in tree.items():
        built = _build_tree(what, profile, blocks) if isinstance(what, dict) else what
        links.append(dagpb.Link(built.cid, name.encode(), built.tsize))
    root, made = builder.build_directory(links, profile)
    blocks.update(made)
    return root


def read_car(path: Path) -> tuple[CID, list[tuple[CID, bytes]]]:
    """The root and the blocks of a CAR version 1 with one root, in the file's order."""
    data = path.read_bytes()
    length, at = varint.decode(data)
    header = data[at : at + length]
    # The header is DAG-CBOR {"roots": [CID], "version": 1}: the CID stands behind its tag 42 and a zero byte.
    start = header.index(b"\xd8\x2a\x58") + 5
    root, _ = CID.read(header, start)
    at += length
    blocks = []
    while at < len(data):
        length, at = varint.decode(data, at)
        cid, start = CID.read(data, at)
        blocks.append((cid, data[start : at + length]))
        at += length
    return root, blocks


def flip(path: Path, rng: random.Random) -> int:
    """Change one bit and leave the time as it was; which byte."""
    before = path.stat()
    at = rng.randrange(before.st_size)
    with path.open("r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ (1 << rng.randrange(8))]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return at
