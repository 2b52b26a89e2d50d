"""The power is cut while a daemon shares and fetches. 25 cuts: `python -m bench faults --full`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_powercut import WHY_NOT, may_mount, power_cuts


@pytest.mark.slow
def test_a_power_cut_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip(WHY_NOT)
    found = power_cuts(tmp_path, 2, seed=2)
    assert found["shares"] >= 1
