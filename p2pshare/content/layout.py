"""Which names a fetch uses on this disk for a stranger's names, and which symbolic links it may make. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from p2pshare_protocols.text import MAX_FILENAME, unique_names

PART: Final = ".part"

RawPath = tuple[bytes, ...]
SafePath = tuple[str, ...]


def lay_out(paths: Sequence[RawPath], *, fold: bool) -> list[SafePath]:
    """A safe path for each raw one, the same every time: directories that several share get one name.

    With `fold` the file system does not tell case or Unicode composition apart.
    """
    children: dict[RawPath, dict[bytes, None]] = {}
    for path in paths:
        for depth in range(len(path), 0, -1):
            siblings = children.setdefault(path[: depth - 1], {})
            if path[depth - 1] in siblings:
                break
            siblings[path[depth - 1]] = None
    names = {
        parent: dict(zip(siblings, unique_names(siblings, fold=fold), strict=True))
        for parent, siblings in children.items()
    }
    safe: dict[RawPath, SafePath] = {(): ()}

    def place(path: RawPath) -> SafePath:
        found = safe.get(path)
        if found is None:
            above = path[:-1]
            found = safe[path] = (*place(above), names[above][path[-1]])
        return found

    return [place(path) for path in paths]


def link_stays_inside(path: RawPath, target: bytes) -> bool:
    """Whether a symbolic link at `path` of the tree leads to a place in the tree, whatever other links there are.

    ".." is allowed only in front: there it climbs real directories. Behind a name it would climb from wherever that
    name, which may be a link too, leads to.
    """
    if not target or target.startswith(b"/") or b"\0" in target:
        return False
    components = [component for component in target.split(b"/") if component not in {b"", b"."}]
    climbs = 0
    while climbs < len(components) and components[climbs] == b"..":
        climbs += 1
    return b".." not in components[climbs:] and climbs < len(path)


def part_name(name: str, number: int = 0) -> str:
    """The name under which `name` is written until it is whole: NAME.part, NAME.1.part, …; at most 255 bytes."""
    suffix = f".{number}{PART}" if number else PART
    raw = name.encode("utf-8", "surrogateescape")
    if len(raw) + len(suffix) > MAX_FILENAME:
        suffix = "~" + hashlib.sha256(raw).hexdigest()[:12] + suffix
        raw = raw[: MAX_FILENAME - len(suffix)].decode("utf-8", "ignore").encode()
    return raw.decode("utf-8", "surrogateescape") + suffix
