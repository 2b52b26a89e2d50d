"""Broken bytes in every parser: only the one kind of error comes out, and well-formed ones are read."""

from __future__ import annotations

import pytest

from tests.fuzz.mutations import mutations
from tests.fuzz.targets import TARGETS

VARIANTS = 400


@pytest.mark.parametrize("name", TARGETS)
def test_only_the_named_error_comes_out_of(name: str) -> None:
    target = TARGETS[name]
    for data in mutations(target.seeds, count=VARIANTS, seed=1):
        try:
            target.survives(data)
        except Exception as error:
            raise AssertionError(f"{data[:500].hex()} made {name} raise {error!r}") from error


@pytest.mark.parametrize(
    "name",
    sorted(
        set(TARGETS) - {"noise", "noise_payload", "multistream", "index_messages", "index_postings", "tls_identity"}
    ),
)
def test_the_well_formed_seeds_are_read_by(name: str) -> None:
    """Seeds that a parser refuses would leave most of it untried. (The rest are conversations: some sides refuse.)"""
    for seed in TARGETS[name].seeds:
        TARGETS[name].parse(seed)


FOUND = [
    # Found by coverage-guided fuzzing: keys of bytes beside keys of text, which cannot be sorted.
    ("control", b"\x82\xa1a\x01\xc4\x01b\x02\x82\xa1a\x01\xc4\x01b\x02"),
]


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_fuzzing_found_stays_mended(name: str, data: bytes) -> None:
    TARGETS[name].survives(data + b"\0" * (len(data) % 2))
