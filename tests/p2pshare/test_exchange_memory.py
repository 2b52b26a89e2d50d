"""A large file moves in little memory, however large it is: two real daemons, measured by the kernel."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support_nodes import RealNode, bootstrap, running

MIB = 1 << 20
SIZE = 1024
ALLOWED = 64  # MiB above what the daemon had used before


def most_used(pid: int) -> float:
    """The most memory, in MiB, that a process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.slow
def test_a_gibibyte_moves_in_little_memory_on_both_sides(tmp_path: Path) -> None:
    base = tmp_path
    source = base / "source.bin"
    with source.open("wb") as file:
        block = random.Random(1).randbytes(16 * MIB)
        for number in range(SIZE // 16):
            file.write(number.to_bytes(8, "big") + block[8:])
    one, two = RealNode(base / "one"), RealNode(base / "two")
    with running(one, two):
        one.start()
        [shared] = one.json("share", str(source))[-1:]
        two.start(bootstrap(one.address()))
        before = [most_used(one.pid), most_used(two.pid)]
        two.run("fetch", str(shared["link"]), "-o", str(base / "out.bin"))
        grown = [after - was for after, was in zip((most_used(one.pid), most_used(two.pid)), before, strict=True)]
    assert os.path.getsize(base / "out.bin") == SIZE * MIB
    assert grown[0] <= ALLOWED, "the source"
    assert grown[1] <= ALLOWED, "the fetcher"
