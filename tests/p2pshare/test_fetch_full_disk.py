"""A destination that becomes full during a fetch: it pauses with its reason, and goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

IN_NAMESPACE = 'mount -t tmpfs -o size=8M tmpfs "$1" && shift && exec "$@"'

SCRIPT = """
import os, random, sys
from pathlib import Path
import trio
from p2pshare.errors import DiskFull
from tests.support_exchange import Job, World, node

small, base = Path(sys.argv[1]), Path(sys.argv[2])
filler = small / "filler"

class Watching(Job):
    def progress(self, bytes, total=None, **extra):
        super().progress(bytes, total)
        if not self.begun:  # somebody else takes the room that was there when it began
            self.begun = True
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    pass
    begun = False
    def reason(self, text):
        super().reason(text)
        if "disk is full" in text and filler.exists():
            print("paused", flush=True)
            filler.unlink()

async def main():
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        async with node(world.node("one"), base / "one") as one, node(world.node("two"), base / "two") as two:
            tree = base / "tree"
            tree.mkdir()
            for n in range(60):
                (tree / f"{n}").write_bytes(random.Random(n).randbytes(100_000))
            cid = await one.share(tree)
            await two.fetch(cid, small / "out", peer=one.network.addresses(), job=Watching())
            same = [(small / "out" / f"{n}").read_bytes() == (tree / f"{n}").read_bytes() for n in range(60)]
            print("whole", all(same))
            try:
                await two.fetch(cid, small / "again", peer=one.network.addresses())
            except DiskFull as error:
                print("too small", "needs" in error.message, sorted(p.name for p in small.iterdir()))
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@pytest.mark.slow
def test_a_fetch_pauses_on_a_full_disk_and_goes_on(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare(1)")
    small, base = tmp_path / "small", tmp_path / "base"
    small.mkdir()
    base.mkdir()
    inside = [unshare, "-rm", "sh", "-c", IN_NAMESPACE, "sh", str(small)]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount in a namespace here")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "protocols")])}
    command = [*inside, sys.executable, "-c", SCRIPT, str(small), str(base)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False, timeout=120)
    assert done.stderr == "", done.stderr[-3000:]
    assert done.stdout.splitlines() == ["paused", "whole True", "too small True ['out']"]
