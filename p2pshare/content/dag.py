"""From what was found and hashed to directories, bottom up. CPU work without I/O; large trees go to a thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from p2pshare.content.walk import FoundDirectory, FoundFile, FoundLink, Scan
from p2pshare.store import NameRow, type_of
from p2pshare.store.filetypes import type_of_file
from p2pshare_protocols import builder, dagpb
from p2pshare_protocols.cid import CID

Block = tuple[CID, bytes]

LOOKED_INTO: Final = 10_000  # files of a share whose names do not tell their types


def build(scan: Scan, profile: builder.Profile) -> tuple[builder.Built, list[Block], Iterator[NameRow]]:
    """The root, the blocks of all directories and links, and the rows of what is inside, parents first.

    Every file of the scan must have its `cid` and `tsize`. The rows are made as they are taken: nobody does for a tree
    that is shared again as it is.
    """
    blocks: list[Block] = []
    built: dict[int, builder.Built] = {}
    root = scan.root
    _tell_types(scan)
    if isinstance(root, FoundFile):
        return _of_file(root), blocks, iter(())
    if isinstance(root, FoundLink):
        made, block = builder.build_symlink(root.target, profile)
        return made, [block], iter(())
    for directory in reversed(scan.directories):  # children were found after their parents
        links: list[dagpb.Link] = []
        size = 0
        for entry in directory.entries:
            if type(entry) is FoundFile and entry.cid is not None:
                links.append(dagpb.Link(entry.cid, entry.name, entry.tsize))
                size += entry.identity.size
                continue
            if isinstance(entry, FoundFile):
                made = _of_file(entry)
            elif isinstance(entry, FoundLink):
                made, block = builder.build_symlink(entry.target, profile)
                blocks.append(block)
                built[id(entry)] = made
            else:
                made = built[id(entry)]
            links.append(dagpb.Link(made.cid, entry.name, made.tsize))
            size += made.size
        made, more = builder.build_directory(links, profile)
        blocks += more
        built[id(directory)] = builder.Built(made.cid, size, made.tsize)
    return built[id(root)], blocks, _rows(scan, built)


def _rows(scan: Scan, built: dict[int, builder.Built]) -> Iterator[NameRow]:
    base = len(scan.root.path.rstrip("/")) + 1
    for directory in scan.directories:
        for entry in directory.entries:
            path, name = entry.path[base:], entry.name.decode("utf-8")
            if isinstance(entry, FoundFile):
                yield NameRow(path, name, _of_file(entry).cid, entry.identity.size, "file", entry.type)
            else:
                made = built[id(entry)]
                kind = "directory" if isinstance(entry, FoundDirectory) else "symlink"
                yield NameRow(path, name, made.cid, made.size, kind)


def _tell_types(scan: Scan) -> None:
    """Of the files whose names do not say it, by how they begin."""
    left = LOOKED_INTO
    for file in scan.files:
        if file.type or type_of(file.name.decode("utf-8")) != "other":
            continue
        if not left:
            return
        left -= 1
        file.type = type_of_file(file.path)


def main_type(scan: Scan, name: str, mime: str) -> str:
    """A file's type; of a directory, the type that most of its bytes have, or "other" when none has half."""
    if isinstance(scan.root, FoundFile):
        told = type_of(name, mime)
        return scan.root.type or told if told == "other" else told
    weights: Counter[str] = Counter()
    for file in scan.files:
        weights[file.type or type_of(file.name.decode("utf-8"))] += file.identity.size
    if not weights:
        return "other"
    kind, most = weights.most_common(1)[0]
    return kind if 2 * most >= scan.size and most else "other"


def _of_file(file: FoundFile) -> builder.Built:
    if file.cid is None:
        raise ValueError(f"{file.path} was not hashed")
    return builder.Built(file.cid, file.identity.size, file.tsize)
