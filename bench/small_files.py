"""Publish and fetch 10,000 files of 4 KiB: p2pshare against libtorrent 2.1.1, as in `transfer`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from bench.support import options, peer_python, report, workspace, write_tree
from bench.transfer import compare, libtorrent_run, p2pshare_run

FILES = 10_000
SIZE = 4096


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments)
    python = peer_python("libtorrent", "libtorrent==2.1.1")
    ours, theirs = [], []
    with workspace() as base:
        for run in range(given.runs):
            source = write_tree(base / f"tree-{run}", FILES, SIZE)
            ours.append(p2pshare_run(base / f"ours-{run}", source))
            theirs.append(libtorrent_run(base / f"theirs-{run}", source, python))
            shutil.rmtree(source)
    return report(f"{FILES} files of {SIZE} bytes", **compare(ours, theirs), runs=given.runs)
