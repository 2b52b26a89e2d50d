"""kill -9 at random moments of sharing and of fetching. 100 moments of each: `python -m bench faults --full`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_kill import kill_run, share_kill_run

pytestmark = pytest.mark.slow


def test_shares_that_were_acknowledged_survive_kills(tmp_path: Path) -> None:
    acknowledged, _ = share_kill_run(tmp_path, 6, seed=1)
    assert acknowledged >= 6


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fetch_survives_being_killed(tmp_path: Path, seed: int) -> None:
    kills, _ = kill_run(tmp_path, 3, size=128 << 20, seed=seed)
    assert kills >= 1
