"""A disk that is really full: a small tmpfs in a mount namespace of its own, which ends with the process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

IN_NAMESPACE = 'mount -t tmpfs -o size=12M tmpfs "$1" && shift && exec "$@"'

FILL_AND_REMOVE = """
import os, sys
from pathlib import Path
from p2pshare.errors import DiskFull
from p2pshare.store import open_store
from tests.support_store import draft, raw_cid
with open_store(Path(sys.argv[1]) / "home") as store:
    store.ballast._write()  # the disk is too small for `refill` to make it
    item = store.items.add(draft())
    kept = 0
    try:
        while True:
            store.blocks.put_many(item.id, [(raw_cid(str(kept)).binary, os.urandom(50_000))])
            kept += 1
    except DiskFull as error:
        print("full", "unshare" in error.hint, store.ballast.present)
    print("kept", store.blocks.stats().blocks == kept > 50)
    store.items.remove(item.id)
    print("removed", store.items.count(), store.blocks.stats().blocks, store.check())
    print("gave back", store.shrink() > 4_000_000)
    store.blocks.put_many(None, [(raw_cid("new").binary, os.urandom(50_000))])
    print("goes on")
"""


def test_unshare_works_on_a_full_disk(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare(1)")
    inside = [unshare, "-rm", "sh", "-c", IN_NAMESPACE, "sh", str(tmp_path)]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount in a namespace here")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "protocols")])}
    command = [*inside, sys.executable, "-c", FILL_AND_REMOVE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["full True False", "kept True", "removed 0 0 []", "gave back True", "goes on"]
    assert list(tmp_path.iterdir()) == []
