"""A running download as the server sees it: what is verified can be passed on at once."""

from __future__ import annotations

from p2pshare.exchange.download import Download
from p2pshare.exchange.target import Target
from p2pshare_protocols.bitmap import Bitmap


class PassingOn:
    """A `Partial` over a download. `whole`: its layout is all of `root`."""

    def __init__(self, root: bytes, download: Download, target: Target, *, whole: bool) -> None:
        self.root = root
        self.size = download.layout.bytes
        self._download = download
        self._target = target
        self._whole = whole
        self._places: dict[bytes, int] | None = None

    def leaves(self) -> Bitmap | None:
        if not self._whole:
            return None
        layout, done = self._download.layout, self._download.done
        if layout.pieces == len(layout.cids):
            return done
        leaves = Bitmap(len(layout.cids))
        for piece in done:
            for leaf in layout.leaves(piece):
                leaves.add(leaf)
        return leaves

    def locate(self, cid: bytes) -> tuple[str, int, int] | None:
        layout = self._download.layout
        if self._places is None:
            self._places = {}
            for piece in range(layout.pieces):
                self._places.update((layout.cids[leaf], piece) for leaf in layout.leaves(piece))
        piece = self._places.get(cid, -1)
        if piece not in self._download.done:
            return None
        leaf = next(leaf for leaf in layout.leaves(piece) if layout.cids[leaf] == cid)
        return self._target.place(leaf)
