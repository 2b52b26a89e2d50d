"""Faults in full: kill -9 while sharing and fetching, power cuts, the network gone. One line each.

`--full`: as often as asked.
Asked: 100 kills of each, 25 power cuts, cuts of 4, 8 and 20 s, and nothing lost that was promised. A run that loses
something ends by an error that names it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.support import MIB, report, workspace
from tests.support_cut import fetch_through_a_cut, may_cut
from tests.support_kill import kill_run, share_kill_run
from tests.support_powercut import WHY_NOT, may_mount, power_cuts

A_HOME = 20  # kills until a new home is taken


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="100 kills and 25 power cuts")
    parser.add_argument("--only", choices=("kill", "power", "network"), help="one kind of fault")
    given = parser.parse_args(arguments)
    runs = {"kill": kills, "power": power, "network": network}
    for name, run in runs.items():
        if given.only in (None, name):
            run(given.full)
    return 0


def kills(full: bool) -> None:
    wanted = 100 if full else 6
    done = fetches = 0
    while done < wanted:
        with workspace() as base:
            done += kill_run(base, wanted - done, size=200 * MIB, seed=fetches)[0]
        fetches += 1
    report("kill -9 during a fetch", kills=done, fetches=fetches, lost=0)
    shares = cut = 0
    for at in range(0, wanted, A_HOME):
        with workspace() as base:
            more, cut_off = share_kill_run(base, min(A_HOME, wanted - at), seed=at)
        shares, cut = shares + more, cut + cut_off
    report("kill -9 during sharing", kills=wanted, acknowledged=shares, jobs_cut_off=cut, lost=0)


def power(full: bool) -> None:
    with workspace() as base:
        if not may_mount(base):
            report("power cut", skipped=WHY_NOT)
            return
        cuts = 25 if full else 5
        report("power cut", cuts=cuts, **power_cuts(base, cuts, seed=1), lost=0)


def network(full: bool) -> None:
    if not may_cut():
        report("network cut", skipped="may not make network namespaces here")
        return
    for seconds in (4.0, 8.0, 20.0) if full else (4.0, 8.0):
        with workspace() as base:
            cut = fetch_through_a_cut(base, seconds)
        report("network cut", seconds=seconds, first_bytes_after=cut.first_bytes, bytes_twice=cut.twice)
