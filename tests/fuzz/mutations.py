"""Broken variants of well-formed bytes, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

_EDGES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _edge(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.choice(_EDGES)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _drop(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 9)]


def _repeat(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randrange(1, 65)] * rng.randrange(1, 5)


def _huge(rng: random.Random, data: bytearray) -> None:
    """A length that says far more than there is."""
    at = rng.randrange(len(data))
    data[at:at] = rng.choice([b"\xff" * 8 + b"\x01", b"\xff" * 4, b"\x80" * 10, b"\x00" * 8, b"\xdd\xff\xff\xff\xff"])


def _noise(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data)) :] = rng.randbytes(rng.randrange(1, 65))


_MOVES: tuple[Callable[[random.Random, bytearray], None], ...] = (_flip, _edge, _cut, _drop, _repeat, _huge, _noise)


def mutations(seeds: Sequence[bytes], *, count: int, seed: int) -> Iterator[bytes]:
    """The seeds themselves, each of their prefixes up to 256 bytes, and `count` variants of one to four changes."""
    rng = random.Random(seed)
    for whole in seeds:
        yield whole
        yield from (whole[:end] for end in range(min(len(whole), 256)))
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 5)):
            if not data:
                break
            rng.choice(_MOVES)(rng, data)
        yield bytes(data)
