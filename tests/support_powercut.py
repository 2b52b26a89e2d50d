"""Power cuts: a daemon whose home, and whose files, lie on an ext4 image that is copied while nothing was flushed.

The daemon is stopped (SIGSTOP), the image is copied as its device has it, without what the kernel still keeps in its
page cache, and the copy is mounted where the image was, in a mount namespace of its own: what is there is what a
machine would find after its power was cut at that moment.

python -m tests.support_powercut COPY MOUNT EXPECTED   checks one copy, inside of such a namespace
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from p2pshare.content import BlockReader
from p2pshare.content.destination import Destination
from p2pshare.content.verify import Verifier
from p2pshare.errors import LocalError
from p2pshare.exchange import resume
from p2pshare.exchange.layout import lay_out
from p2pshare.exchange.target import Target
from p2pshare.store import Store, open_store
from p2pshare_cli.client import Client
from p2pshare_cli.errors import CommandError
from p2pshare_protocols.cid import CID, RAW
from p2pshare_protocols.dagwalk import DagWalk
from p2pshare_protocols.places import places_under
from tests.support_kill import Sharing
from tests.support_nodes import RealNode, bootstrap, running

MIB = 1 << 20
IMAGE_SIZE = 4096 * MIB  # sparse
A_DISK = 5  # cuts until a new disk is taken, since each is filled by and by
ROOT = Path(__file__).parents[1]
WHY_NOT = "may not mount loop devices here"


def may_mount(base: Path) -> bool:
    """Whether this machine lets us mount an image."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext4", "mount", "umount", "unshare"))):
        return False
    try:
        with image(base / "probe", 8 * MIB):
            return True
    except subprocess.CalledProcessError:
        return False


@contextmanager
def image(base: Path, size: int = IMAGE_SIZE) -> Iterator[tuple[Path, Path]]:
    """An ext4 file system in a file; (file, mount point)."""
    base.mkdir()
    file, mounted = base / "image", base / "mounted"
    mounted.mkdir()
    with file.open("wb") as sink:
        sink.truncate(size)
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", str(file))
    run("mount", "-o", "loop", str(file), str(mounted))
    try:
        yield file, mounted
    finally:
        run("umount", "--lazy", str(mounted))  # also when a daemon was left


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass
class Fetching:
    """Fetches the items of a source one after another. `finished`: CID by path, as the daemon said."""

    home: Path
    into: Path
    links: Sequence[str]
    finished: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Until the daemon goes away."""
        try:
            with Client(self.home / "control.sock") as node:
                for number in range(1 << 20):
                    path = str(self.into / f"{number:05}")
                    job = node.call("fetch.start", link=self.links[number % len(self.links)], path=path)["job"]
                    for event in node.watch(job):
                        if event["event"] == "done":
                            self.finished[event["path"]] = event["cid"]
        except (CommandError, OSError):
            return


def power_cuts(base: Path, cuts: int, *, seed: int) -> dict[str, int]:
    """Cut the power `cuts` times. Raises AssertionError naming what was lost; else how much there was to lose."""
    totals = dict.fromkeys(("shares", "fetches", "running", "pieces"), 0)
    for disk in range(0, cuts, A_DISK):
        (base / f"{disk}").mkdir()
        for key, count in _cuts_of_a_disk(base / f"{disk}", min(A_DISK, cuts - disk), seed + disk).items():
            totals[key] += count
        shutil.rmtree(base / f"{disk}", ignore_errors=True)
    return totals


def _cuts_of_a_disk(base: Path, cuts: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    totals: Counter[str] = Counter()
    source = RealNode(base / "source")
    with image(base / "disk") as (file, mounted):
        node = RealNode(mounted / "node", ['limits.download="60MB"'])
        with running(source, node):
            source.start('limits.upload="60MB"')
            links = [str(source.json("share", str(path))[-1]["link"]) for path in _contents(base / "contents", rng)]
            node.start(bootstrap(source.address()))
            fetching = Fetching(node.home, mounted / "fetched", links)
            fetching.into.mkdir()
            sharing = Sharing(node.home, mounted / "trees", seed)
            threads = [threading.Thread(target=one.run) for one in (sharing, fetching)]
            for thread in threads:
                thread.start()
            pid = node.pid
            for number in range(cuts):
                time.sleep(rng.uniform(0.05, 2.5))
                copy = base / f"cut-{number}"
                os.kill(pid, signal.SIGSTOP)
                try:
                    time.sleep(0.02)  # what it had said is heard
                    expected = {"shares": dict(sharing.acknowledged), "fetches": dict(fetching.finished)}
                    run("cp", "--sparse=always", str(file), str(copy))
                finally:
                    os.kill(pid, signal.SIGCONT)
                found = _check_copy(copy, mounted, node.home, expected)
                copy.unlink()
                totals["running"] += found["running"]
                totals["pieces"] += found["pieces"]
            totals += Counter(shares=len(expected["shares"]), fetches=len(expected["fetches"]))
            node.stop()
            for thread in threads:
                thread.join()
    return dict(totals)


def _contents(base: Path, rng: random.Random) -> list[Path]:
    """What the source has: a file of many pieces, a small one, a tree of many files."""
    base.mkdir()
    (base / "large").write_bytes(rng.randbytes(96 * MIB))
    (base / "small").write_bytes(rng.randbytes(700_000))
    tree = base / "tree"
    for number in range(300):
        path = tree / f"d{number % 7}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice((10, 4096, 50_000))))
    return [base / "large", base / "small", tree]


def _check_copy(copy: Path, mounted: Path, home: Path, expected: dict[str, Any]) -> dict[str, int]:
    wanted = copy.with_suffix(".json")
    wanted.write_text(json.dumps({**expected, "home": str(home)}))
    command = [sys.executable, "-m", "tests.support_powercut", str(copy), str(mounted), str(wanted)]
    paths = [str(ROOT), str(ROOT / "protocols"), str(ROOT / "cli")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    inside = ["unshare", "--mount", "--propagation", "private", *command]
    done = subprocess.run(inside, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


# -- inside of the namespace --


async def check(copy: str, mounted: str, wanted: str) -> None:
    expected = json.loads(Path(wanted).read_text())
    run("umount", "--lazy", mounted)
    run("mount", "-o", "loop", copy, mounted)  # replays the file system's journal
    try:
        home = Path(places_under(expected["home"]).catalogue)
        with closing(sqlite3.connect(f"file:{home}/catalogue.sqlite?mode=rw", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with open_store(home) as store:
            for what in ("shares", "fetches"):
                for path, cid in expected[what].items():
                    item = store.items.by_path(path)
                    assert item is not None, f"{what}: {path} is lost"
                    assert str(item.cid) == cid, f"{what}: {path} is another"
                    assert item.state == "ok", f"{what}: {path} is {item.state}"
                    damaged = await Verifier(store).run(item)
                    assert damaged == [], f"{what}: {path}: {damaged[0]}"
                    await _whole_dag(store, item.cid)
            jobs = [job for job in store.jobs.list(("running",)) if job.kind == "fetch"]
            pieces = [await _claims(store, blob) for job in jobs if (blob := store.jobs.load_blob(job.id)) is not None]
        counts = {"shares": len(expected["shares"]), "fetches": len(expected["fetches"])}
        print(json.dumps({**counts, "running": len(jobs), "pieces": max(pieces, default=0)}))
    finally:
        run("umount", mounted)


async def _whole_dag(store: Store, root: CID) -> None:
    """Every block from the root down can be read."""
    with closing(BlockReader(store)) as reader:
        walk = DagWalk(root)
        while wanted := walk.wanted(64):
            for cid in wanted:
                walk.feed(cid, await reader.read(cid))


async def _claims(store: Store, blob: bytes) -> int:
    """How many pieces a running fetch's record claims; each must be there."""
    state = resume.msgpack.unpackb(blob)
    root = CID.from_binary(state["root"])
    if root.codec == RAW:  # one block, whose size nobody told
        return 0
    with closing(BlockReader(store)) as reader:
        walk = DagWalk(root)
        try:
            while wanted := walk.wanted(64):
                for cid in wanted:
                    walk.feed(cid, await reader.read(cid))
        except LocalError:
            assert not any(state["done"]), "pieces are claimed of a DAG that is not here"
            return 0
    entries = walk.plan().entries
    layout = lay_out(entries)
    done = resume.done_of({**state, "part": ""}, layout)
    part = os.path.basename(state["part"].decode())
    to = state["to"].decode()
    if os.path.exists(to):  # renamed, and not in the catalogue yet
        part = os.path.basename(to)
    if not os.path.exists(os.path.join(os.path.dirname(to), part)):
        return 0  # a fetch whose files are gone begins anew, see Destination.resumed
    with Destination.open(to, entries, overwrite=True, part=part) as destination:
        target = Target(destination, layout)
        for piece in done:
            assert target.holds(piece), f"piece {piece} of {to} is claimed and is not there"
    return done.count


if __name__ == "__main__":
    trio.run(check, *sys.argv[1:])
