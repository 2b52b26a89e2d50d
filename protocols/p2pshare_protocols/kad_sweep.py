"""Providing many keys: in the order of the key space, so that one lookup and one stream a node serve a whole region.

A region is all keys that share their first bits with each other. Its bits are chosen so that 40 to 80 nodes share them
too: these are exactly the nodes nearest to each of its keys, and one lookup of one key finds them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .kad_keys import BITS, Contact, K, key_of
from .kad_region import bound, window

EXPLORED = 6 * K
"""Nodes that the lookup of a region finds: the 40 to 80, and room for as many again that somebody made up."""


def prefix_bits(size: float | None, k: int = K) -> int:
    """How many leading bits the keys of one region share, in a network of `size` nodes; 0: all are one region."""
    if size is None or size < 4 * k:
        return 0
    return int(size / (2 * k)).bit_length() - 1


def regions(names: Iterable[bytes], bits: int) -> Iterator[list[bytes]]:
    """The names (multihashes) sorted by place, cut into regions."""
    group: list[bytes] = []
    group_prefix = -1
    for place, name in sorted((key_of(name), name) for name in names):
        prefix = place >> (BITS - bits)
        if group and prefix != group_prefix:
            yield group
            group = []
        group_prefix = prefix
        group.append(name)
    if group:
        yield group


def assign(
    names: Iterable[bytes], nodes: Sequence[Contact], size: float | None, *, salt: bytes = b""
) -> dict[str, list[bytes]]:
    """Which of the names each node is to keep: those of whose own region it is one, as a lookup would have it."""
    kept: dict[str, list[bytes]] = {}
    limit = bound(size)
    for name in names:
        target = key_of(name)
        ordered = sorted(((node.key ^ target, node) for node in nodes), key=lambda pair: pair[0])
        for _, node in window(ordered, limit, salt=salt):
            kept.setdefault(node.peer_id, []).append(name)
    return kept
