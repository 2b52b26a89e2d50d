"""Starting the daemon as a process of its own, and waiting until it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2pshare_cli.client import Client
from p2pshare_cli.errors import CommandError
from p2pshare_cli.home import find_places
from p2pshare_cli.output import Output
from p2pshare_protocols.errors import KINDS

START_LIMIT = 60.0  # seconds; a cold disk imports for several
POLL = 0.02  # seconds between two looks at the socket
DAEMON = ("-m", "p2pshare.daemon")


def autostart_wanted() -> bool:
    """`daemon.autostart` of the configuration file; what is wrong in the file the daemon will say itself."""
    try:
        values = tomllib.loads(Path(find_places().config_file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    section = values.get("daemon", {})
    return not isinstance(section, dict) or section.get("autostart", True) is not False


def start_daemon(output: Output, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Start the daemon in the background and wait until it is ready; returns its `ping` answer.

    Raises CommandError with what the daemon said when it ends instead.
    """
    begun = time.monotonic()
    output.status_line("Starting the daemon…")
    command = [sys.executable, *DAEMON, *(part for setting in settings for part in ("--set", setting))]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        env={**os.environ, **_absolute_home()},
    )
    try:
        answer = _wait_until_ready(process, begun)
    finally:
        if process.stderr is not None:
            process.stderr.close()
    output.note(f"Starting the daemon… ready in {time.monotonic() - begun:.1f} s")
    return answer


def _absolute_home() -> dict[str, str]:
    places = find_places()
    return {"P2PSHARE_HOME": places.home} if places.home else {}


def _wait_until_ready(process: subprocess.Popen[bytes], begun: float) -> dict[str, Any]:
    while time.monotonic() - begun < START_LIMIT:
        code = process.poll()
        answer = _ping()
        if answer is not None and answer.get("state") == "ready":
            return answer
        if code is not None and answer is None:
            _explain(process, code)
        time.sleep(POLL)
    raise CommandError(
        "timeout", f"the daemon was not ready within {START_LIMIT:.0f} s", "See what it says: p2pshare daemon log"
    )


def _ping() -> dict[str, Any] | None:
    try:
        with Client(timeout=5) as node:
            answer = node.call("ping")
    except CommandError:
        return None
    return answer if isinstance(answer, dict) else None


def _explain(process: subprocess.Popen[bytes], code: int) -> None:
    said = process.stderr.read(8192).decode("utf-8", "replace").strip() if process.stderr is not None else ""
    kind = next((name for name, about in KINDS.items() if about.exit_code == code and code > 1), "failed")
    message, _, hint = said.removeprefix("Error: ").partition("\n")
    raise CommandError(kind, message or f"the daemon ended with code {code}", hint.strip())
