"""The network is gone for a while in the middle of a fetch. 4, 8 and 20 s: `python -m bench faults --full`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_cut import MIB, WHY_NOT, fetch_through_a_cut, may_cut

OVERHEAD = 0.02  # headers, seals, and what is said before the first block


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4.0, 8.0])
def test_a_fetch_goes_on_soon_after_the_network_is_back(tmp_path: Path, seconds: float) -> None:
    if not may_cut():
        pytest.skip(WHY_NOT)
    cut = fetch_through_a_cut(tmp_path, seconds)
    assert cut.first_bytes < 2.0
    assert cut.twice < MIB + cut.size * OVERHEAD, "more than one piece came twice"
