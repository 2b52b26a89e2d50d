"""kill -9 at random moments of a fetch by real daemons: it goes on by itself. 100 times: `python -m bench kill`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_kill import kill_run


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_fetch_survives_being_killed(tmp_path: Path, seed: int) -> None:
    kills, _ = kill_run(tmp_path, 3, size=128 << 20, seed=seed)
    assert kills >= 1
