"""kill -9 the fetching daemon at random moments, start it again each time, and compare the file at the end.

Asked: after 100 kills every fetch has ended by itself with the right bytes, and nothing is left beside the file.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.support import MIB, options, report, workspace
from tests.support_kill import kill_run


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments, runs=100)
    kills = fetches = 0
    seconds = 0.0
    while kills < given.runs:
        with workspace() as base:
            more, took = kill_run(base, given.runs - kills, size=min(given.size, 256) * MIB, seed=fetches)
        kills, seconds, fetches = kills + more, seconds + took, fetches + 1
    return report("kill -9 during a fetch", kills=kills, fetches=fetches, seconds=round(seconds, 1), same=True)
