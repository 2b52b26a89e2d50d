"""The daemon's first answer from nothing, and one CLI `status`, against `import libp2p` of the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.support import median, options, report, workspace
from p2pshare_cli.client import Client
from p2pshare_cli.errors import CommandError
from tests.support_nodes import RealNode


def main(arguments: Sequence[str]) -> int:
    given = options(__doc__ or "", arguments)
    first, ready, status, imported, bare = [], [], [], [], []
    with workspace() as base:
        for run in range(given.runs):
            node = RealNode(base / f"home-{run}")
            answers = start_once(node)
            first.append(answers[0])
            ready.append(answers[1])
            try:
                status.append(command_seconds([sys.executable, "-m", "p2pshare_cli", "status"], node.environment))
            finally:
                node.stop()
            imported.append(command_seconds([sys.executable, "-c", "import libp2p"], dict(os.environ)))
            bare.append(command_seconds([sys.executable, "-c", "import click, msgpack"], dict(os.environ)))
    return report(
        "start",
        first_answer_seconds=median(first),
        ready_seconds=median(ready),
        import_libp2p_seconds=median(imported),
        first_answer_over_import_libp2p=median([a / b for a, b in zip(first, imported, strict=True)]),
        cli_status_seconds=median(status),
        bare_click_msgpack_seconds=median(bare),
        cli_status_over_bare=median([a / b for a, b in zip(status, bare, strict=True)]),
        runs=given.runs,
    )


def start_once(node: RealNode) -> tuple[float, float]:
    """Seconds until the control socket answered, and until it said ready."""
    node.home.mkdir(mode=0o700)
    settings = [word for setting in node.settings for word in ("--set", setting)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pshare.daemon", *settings],
        env=node.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    first = 0.0
    while process.poll() is None:
        try:
            with Client(node.home / "control.sock") as client:
                answer = client.call("ping")
        except CommandError:
            time.sleep(0.002)
            continue
        first = first or time.perf_counter() - begun
        if answer["state"] == "ready":
            return first, time.perf_counter() - begun
        time.sleep(0.005)
    raise RuntimeError(node.log_tail())


def command_seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun
