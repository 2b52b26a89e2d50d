"""fetch: one link to one place, from as many sources as there are."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from p2pshare_cli.context import Context, command_options
from p2pshare_cli.errors import CommandError
from p2pshare_cli.following import follow
from p2pshare_cli.home import find_places
from p2pshare_cli.output import duration, size
from p2pshare_cli.rows import resolve

BUFFER = 1024 * 1024


@click.command()
@click.argument("target", metavar="LINK|CID|N")
@click.option("-o", "--output", "where", metavar="PATH|-", help="A file, a directory, or - for standard output.")
@click.option("--only", metavar="GLOB", help="Of a directory, only the files that match.")
@click.option("--sequential", is_flag=True, help="In file order, to look into it while it comes.")
@click.option("--priority", type=click.IntRange(-10, 10), default=0, show_default=True)
@click.option("--range", "span", metavar="A-B", help="Only these bytes of a file.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--detach", is_flag=True, help="Return at once; the daemon goes on.")
@click.option("--foreground", is_flag=True, help="Ctrl-C cancels the job.")
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="A peer to ask first; repeatable.")
@click.option("--timeout", type=click.FloatRange(min=0.1), help="Give up after so many seconds without a source.")
@command_options
def fetch(context: Context, target: str, where: str | None, **options: Any) -> None:
    """Fetch an item: verified, encrypted, resumable."""
    if where == "-":
        _fetch_to_stdout(context, target, options)
        return
    params = _params(target, os.path.abspath(where or "."), options)
    with context.node(start=True) as node:
        job = node.call("fetch.start", **params)["job"]
        if options["detach"]:
            context.output.event({"event": "started", "job": job})
            context.output.say(f"Job {job} started. Watch it with: p2pshare jobs watch {job}")
            return
        done = follow(context, node, job, _label(params["link"]), foreground=options["foreground"])
    context.output.event({**done, "event": "done", "job": job})
    elapsed = float(done.get("elapsed") or 0)
    took = f"{elapsed:.1f} s" if elapsed < 60 else duration(elapsed)
    context.output.say(f"Saved {_shorter(done['path'])} ({size(done['size'])}, verified) in {took}")
    for refusal in (done.get("skipped") or [])[:20]:
        context.output.note(f"  left out  {refusal.get('path')}: {refusal.get('reason')}")


def _label(link: str) -> str:
    """What the progress line calls it: the name that the link carries."""
    return link.partition("?")[0].rstrip("/").rpartition("/")[2] if "/" in link else "fetching"


def _params(target: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "link": resolve(target),
        "path": path,
        "only": options["only"],
        "sequential": options["sequential"],
        "priority": options["priority"],
        "range": options["span"],
        "overwrite": options["overwrite"],
        "peer": list(options["peers"]),
        "timeout": options["timeout"],
    }


def _fetch_to_stdout(context: Context, target: str, options: dict[str, Any]) -> None:
    """Through a file of ours that goes away: every byte is verified before the first is printed."""
    if context.output.as_json:
        raise CommandError("usage", "--json and -o - would both write to standard output", "Give -o a path.")
    parent = Path(find_places().runtime)
    directory = tempfile.mkdtemp(prefix="stdout-", dir=parent if parent.is_dir() else None)
    try:
        with context.node(start=True) as node:
            job = node.call("fetch.start", **_params(target, directory, options))["job"]
            done = follow(context, node, job, _label(resolve(target)), foreground=True)
            try:
                _copy_out(done["path"])
            finally:
                node.call("shares.remove", target=done["path"])  # its file goes away, so it cannot be served on
    except BrokenPipeError:
        sys.stderr.close()
        raise click.exceptions.Exit(1) from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _copy_out(path: str) -> None:
    if os.path.isdir(path):
        raise CommandError("usage", "a directory cannot go to standard output", "Pick a file in it: CID/path")
    with open(path, "rb") as source:
        shutil.copyfileobj(source, sys.stdout.buffer, BUFFER)
    sys.stdout.buffer.flush()


def _shorter(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else f"./{relative}"
