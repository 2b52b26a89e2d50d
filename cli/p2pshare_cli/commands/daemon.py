"""daemon: run, start, stop, restart, status, log, install, uninstall."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from p2pshare_cli.client import Client
from p2pshare_cli.context import Context, command_options
from p2pshare_cli.errors import CommandError
from p2pshare_cli.groups import Group
from p2pshare_cli.home import find_places
from p2pshare_cli.launch import DAEMON, start_daemon

STOP_LIMIT = 10.0  # seconds; the daemon itself gives up after 5
UNIT = "p2pshare.service"


@click.group(cls=Group)
def daemon() -> None:
    """The background process of this home."""


SETTINGS = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="For this run; repeatable.")


@daemon.command("run")
@SETTINGS
def run(settings: tuple[str, ...]) -> None:
    """Run in the foreground, the log on the terminal, until Ctrl-C."""
    arguments = [*DAEMON, "--foreground", *(part for setting in settings for part in ("--set", setting))]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - our own interpreter and module


@daemon.command("start")
@SETTINGS
@command_options
def start(context: Context, settings: tuple[str, ...]) -> None:
    """Start in the background and wait until it is ready."""
    try:
        with Client(timeout=5) as node:
            about = node.call("ping")
    except CommandError:
        about = start_daemon(context.output, settings)
        context.output.event({"event": "done", **about})
        return
    raise CommandError("locked", f"the daemon runs already, as process {about.get('pid')}", "p2pshare status")


@daemon.command("stop")
@command_options
def stop(context: Context) -> None:
    """Stop it; jobs go on when it is started again."""
    _stop(context)
    context.output.event({"event": "done"})
    context.output.say("Stopped.")


def _stop(context: Context) -> None:
    with Client(timeout=STOP_LIMIT) as node:
        pid = node.call("ping")["pid"]
        node.call("daemon.stop")
    context.output.status_line("Stopping…")
    begun = time.monotonic()
    while _alive(pid):
        if time.monotonic() - begun > STOP_LIMIT:
            raise CommandError("timeout", f"process {pid} has not ended yet", "See why: p2pshare daemon log")
        time.sleep(0.02)
    context.output.clear()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except (OSError, IndexError):
        return os.path.exists(f"/proc/{pid}") or not os.path.isdir("/proc/self")


@daemon.command("restart")
@SETTINGS
@command_options
def restart(context: Context, settings: tuple[str, ...]) -> None:
    """Stop and start again."""
    try:
        _stop(context)
    except CommandError as error:
        if error.kind != "daemon-not-running":
            raise
    about = start_daemon(context.output, settings)
    context.output.event({"event": "done", **about})


@daemon.command("status")
@command_options
def status(context: Context) -> None:
    """Whether it runs; exit 3 when not."""
    with Client(timeout=5) as node:
        about = node.call("ping")
    context.output.event(about)
    context.output.say(f"{about['state']}, process {about['pid']}, p2pshare {about['version']}")


@daemon.command("log")
@click.option("-n", "--lines", type=click.IntRange(1, 100_000), default=50, show_default=True)
@command_options
def log(context: Context, lines: int) -> None:
    """The last lines of its log, also when it does not run."""
    path = Path(find_places().log)
    try:
        with path.open("rb") as source:
            source.seek(max(0, path.stat().st_size - lines * 512))
            text = source.read().decode("utf-8", "replace")
    except OSError:
        raise CommandError("not-found", f"there is no log at {path}", "The daemon has not run in this home.") from None
    for line in text.splitlines()[-lines:]:
        context.output.event({"event": "line", "text": line})
        context.output.say(line)


@daemon.command("install")
@command_options
def install(context: Context) -> None:
    """Start it at login, by a systemd unit of this user."""
    path = _unit_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    places = find_places()
    home = f'Environment="P2PSHARE_HOME={places.home}"\n' if places.home else ""
    command = " ".join([sys.executable, *DAEMON, "--foreground"])
    path.write_text(
        "[Unit]\nDescription=p2pshare\nAfter=network.target\n\n"
        f"[Service]\nType=notify\n{home}ExecStart={command}\nRestart=on-failure\n\n"
        "[Install]\nWantedBy=default.target\n",
        encoding="utf-8",
    )
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", UNIT)
    context.output.event({"event": "done", "path": str(path)})
    context.output.say(f"Installed {path}. It starts at login.")


@daemon.command("uninstall")
@command_options
def uninstall(context: Context) -> None:
    """Take the unit away again."""
    path = _unit_path()
    if not path.exists():
        raise CommandError("not-found", f"{path} is not there", "Nothing to do.")
    _systemctl("disable", "--now", UNIT)
    path.unlink()
    context.output.event({"event": "done", "path": str(path)})
    context.output.say(f"Removed {path}.")


def _unit_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "systemd" / "user" / UNIT


def _systemctl(*words: str) -> None:
    try:
        subprocess.run(["systemctl", "--user", *words], check=True, capture_output=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        raise CommandError(
            "failed",
            "systemd does not answer for this user",
            f"The unit is at {_unit_path()}; or start the daemon your own way: p2pshare daemon start",
        ) from None
