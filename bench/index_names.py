"""Items with real names for the simulated index: this machine's packages and files, or lists that are given.

A list has a name at the beginning of each line and, after tabs, a summary at its end; a summary becomes the title.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from p2pshare_protocols import terms
from p2pshare_protocols.cid import CID, RAW, SHA2_256

Ints = npt.NDArray[np.int32]
RUN = 100  # names that are neighbours in the alphabet stand in one place, as in people's directories


@dataclass(frozen=True, slots=True)
class Named:
    name: str
    title: str = ""

    @property
    def cid(self) -> CID:
        return CID(1, RAW, bytes([SHA2_256, 32]) + hashlib.sha256(self.name.encode("utf-8", "replace")).digest())

    def terms(self) -> list[str]:
        """As `ItemRecord.terms` of a record with this name and title."""
        return terms.cut(f"{self.name} | {self.title} | ", terms.MAX_TERMS_PER_ITEM)


def real_names(count: int, lists: Sequence[Path], seed: int) -> list[Named]:
    """`count` distinct names in the order of publishing. Raises ValueError when there are not so many."""
    found: dict[str, Named] = {}
    for source in (_listed(lists), _packages(), _files()):
        if len(found) >= count:
            break
        for name, title in source:
            if name.isprintable() and 2 <= len(name) <= 120:
                found.setdefault(name, Named(name, title[:200] if title.isprintable() else ""))
    if len(found) < count:
        raise ValueError(f"only {len(found)} names are at hand; give more with --names")
    return random.Random(seed).sample([found[name] for name in sorted(found)], count)


def _listed(lists: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for path in lists:
        with path.open(errors="replace") as lines:
            next(lines, None)  # the heads of the columns
            for line in lines:
                parts = line.rstrip("\n").split("\t")
                yield parts[0], parts[-1] if len(parts) > 1 else ""


def _packages() -> Iterator[tuple[str, str]]:
    if shutil.which("apt-cache") is None:
        return
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=False).stdout
    name = ""
    for line in listed.splitlines():
        if line.startswith("Package: "):
            name = line[9:]
        elif line.startswith(("Description: ", "Description-en: ")) and name:
            yield name, line.partition(": ")[2]
            name = ""


def _files() -> Iterator[tuple[str, str]]:
    for directory, _, files in os.walk("/usr/share"):
        for file in files:
            yield f"{Path(directory).name}-{file}", ""


def owners(names: Sequence[Named], publishers: int, largest: float, seed: int) -> Ints:
    """Which publisher has each item: number 0 has `largest` of all, the others as many as Zipf's law gives them.

    Runs of neighbours in the alphabet belong to one, so that publishers have words of their own.
    """
    rng = np.random.default_rng(seed)
    order = np.array(sorted(range(len(names)), key=lambda number: names[number].name))
    weights = 1 / np.arange(1, publishers + 1) ** 0.8
    weights[0] = 0
    weights *= (1 - largest) / weights.sum()
    weights[0] = largest
    dealt = rng.choice(publishers, size=len(names) // RUN + 1, p=weights)
    found = np.empty(len(names), np.int32)
    found[order] = np.repeat(dealt, RUN)[: len(names)]
    return found
