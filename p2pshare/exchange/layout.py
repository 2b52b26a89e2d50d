"""From a DAG's plan to pieces: which leaves there are, where they go, and which are asked for together. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.dagplan import Entry, Leaf
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.exchange_messages import MAX_CIDS, PIECE


@dataclass(slots=True)
class Layout:
    """Leaves in DFS order; piece i is the leaves [starts[i], starts[i + 1]). `files[n]` is an index into entries.

    The same plan gives the same pieces, so that a bitmap of pieces is enough to go on after a restart.
    """

    cids: list[bytes] = field(default_factory=list)
    files: array[int] = field(default_factory=lambda: array("L"))
    offsets: array[int] = field(default_factory=lambda: array("q"))  # below 0 where a range cuts
    sizes: array[int] = field(default_factory=lambda: array("L"))
    starts: array[int] = field(default_factory=lambda: array("L", [0]))
    piece_sizes: list[int] = field(default_factory=list)
    wholes: list[int] = field(default_factory=list)  # bytes of each entry

    @property
    def pieces(self) -> int:
        return len(self.piece_sizes)

    @property
    def bytes(self) -> int:
        return sum(self.piece_sizes)

    def leaves(self, piece: int) -> range:
        return range(self.starts[piece], self.starts[piece + 1])

    def is_whole(self, leaf: int) -> bool:
        """Whether a leaf is all there is of its file, apart from what stands in inner nodes."""
        file = self.files[leaf]
        beside = (leaf and self.files[leaf - 1] == file) or (
            leaf + 1 < len(self.files) and self.files[leaf + 1] == file
        )
        return not beside and not self.offsets[leaf] and self.wholes[file] == self.sizes[leaf]

    def pieces_of(self, leaves: Bitmap) -> Bitmap:
        """Which pieces a holder of these leaves has all of."""
        if self.pieces == leaves.size:
            return leaves
        pieces = Bitmap(self.pieces)
        for piece in range(self.pieces):
            if leaves.covers(self.starts[piece], self.starts[piece + 1]):
                pieces.add(piece)
        return pieces


def lay_out(entries: Sequence[Entry]) -> Layout:
    """Every leaf's size must be known; empty ones need no fetching. Raises RemoteProtocolError."""
    layout = Layout(wholes=[entry.size or 0 for entry in entries])
    size = 0
    for number, entry in enumerate(entries):
        for leaf in entry.segments:
            if not isinstance(leaf, Leaf):
                continue
            assert leaf.size is not None
            if not leaf.size:
                if not leaf.cid.matches(b""):
                    raise RemoteProtocolError("a part of a file is not what the node above it says")
                continue
            count = len(layout.cids) - layout.starts[-1]
            if count and (size + leaf.size > PIECE or count >= MAX_CIDS):
                layout.starts.append(len(layout.cids))
                layout.piece_sizes.append(size)
                size = 0
            layout.cids.append(leaf.cid.v1.binary)
            layout.files.append(number)
            layout.offsets.append(leaf.offset)
            layout.sizes.append(leaf.size)
            size += leaf.size
    if len(layout.cids) > layout.starts[-1]:
        layout.starts.append(len(layout.cids))
        layout.piece_sizes.append(size)
    return layout
