"""From what was found and hashed to directories, bottom up. CPU work without I/O; large trees go to a thread."""

from __future__ import annotations

from collections import Counter

from p2pshare.content.walk import FoundDirectory, FoundFile, FoundLink, Scan
from p2pshare.store import NameRow, type_of
from p2pshare_protocols import builder, dagpb
from p2pshare_protocols.cid import CID

Block = tuple[CID, bytes]


def build(scan: Scan, profile: builder.Profile) -> tuple[builder.Built, list[Block], list[NameRow]]:
    """The root, the blocks of all directories and links, and the rows of what is inside, parents first.

    Every file of the scan must have its `cid` and `tsize`.
    """
    blocks: list[Block] = []
    built: dict[int, builder.Built] = {}
    rows: dict[int, list[NameRow]] = {}
    root = scan.root
    if isinstance(root, FoundFile):
        return _of_file(root), blocks, []
    if isinstance(root, FoundLink):
        made, block = builder.build_symlink(root.target, profile)
        return made, [block], []
    base = len(root.path.rstrip("/")) + 1
    for directory in reversed(scan.directories):  # children were found after their parents
        links: list[dagpb.Link] = []
        inside = rows[id(directory)] = []
        for entry in directory.entries:
            if isinstance(entry, FoundDirectory):
                made, kind = built.pop(id(entry)), "directory"
            elif isinstance(entry, FoundFile):
                made, kind = _of_file(entry), "file"
            else:
                made, block = builder.build_symlink(entry.target, profile)
                blocks.append(block)
                kind = "symlink"
            links.append(dagpb.Link(made.cid, entry.name, made.tsize))
            inside.append(NameRow(entry.path[base:], entry.name.decode("utf-8"), made.cid, made.size, kind))
        made, more = builder.build_directory(links, profile)
        blocks += more
        built[id(directory)] = builder.Built(made.cid, sum(row.size for row in inside), made.tsize)
    names = [row for directory in scan.directories for row in rows[id(directory)]]
    return built[id(root)], blocks, names


def main_type(scan: Scan, name: str, mime: str) -> str:
    """A file's type; of a directory, the type that most of its bytes have, or "other" when none has half."""
    if isinstance(scan.root, FoundFile):
        return type_of(name, mime)
    weights: Counter[str] = Counter()
    for file in scan.files:
        weights[type_of(file.name.decode("utf-8"))] += file.identity.size
    if not weights:
        return "other"
    kind, most = weights.most_common(1)[0]
    return kind if 2 * most >= scan.size and most else "other"


def _of_file(file: FoundFile) -> builder.Built:
    if file.cid is None:
        raise ValueError(f"{file.path} was not hashed")
    return builder.Built(file.cid, file.identity.size, file.tsize)
