"""share, unshare, shares, show: what this machine offers, and what an item is."""

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
from p2pshare_cli.output import Output, size
from p2pshare_cli.reach import reach
from p2pshare_cli.rows import resolve

KEPT_IN_PLACE = "stays where it is"


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--copy", is_flag=True, help="Keep a copy, so that the file may go.")
@click.option("--name", help="The name that others see.")
@click.option("--tag", "tags", multiple=True, metavar="T", help="A word more to be found by; repeatable.")
@click.option("--title", help="A title to be found by.")
@click.option("--description", help="What it is, in a sentence.")
@click.option("--mime", help="The media type, when the name does not tell.")
@click.option("--hidden", is_flag=True, help="Hidden files too.")
@click.option("--follow-symlinks", is_flag=True, help="What symbolic links point to, instead of the links.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out what matches; repeatable.")
@click.option("--no-announce", is_flag=True, help="Do not announce it in the DHT.")
@click.option("--no-index", is_flag=True, help="Do not let others find it by words.")
@click.option("--hash", "hash_name", type=click.Choice(["sha256", "blake3"]), default="sha256", show_default=True)
@click.option("--wait", type=click.Choice(["findable", "none"]), default="findable", show_default=True)
@click.option("--detach", is_flag=True, help="Return at once; the daemon goes on.")
@click.option("--foreground", is_flag=True, help="Ctrl-C cancels the job.")
@command_options
def share(context: Context, paths: tuple[str, ...], **options: Any) -> None:
    """Publish files and directories from where they lie. `-` is standard input."""
    detach, foreground = options.pop("detach"), options.pop("foreground")
    spooled: str | None = None
    if "-" in paths:
        if len(paths) > 1 or not options["name"]:
            raise CommandError("usage", "standard input is shared alone, with --name", "p2pshare share - --name NAME")
        spooled = _spool(sys.stdin.buffer, options["name"])
        paths, options["copy"] = (spooled,), True
    try:
        params = _share_params(paths, options)
        with context.node(start=True) as node:
            job = node.call("share.start", **params)["job"]
            if detach and spooled is None:
                context.output.event({"event": "started", "job": job})
                context.output.say(f"Job {job} started. Watch it with: p2pshare jobs watch {job}")
                return
            done = follow(context, node, job, "hashing", foreground=foreground)
            about = {} if context.output.as_json else node.call("status")
    finally:
        if spooled is not None:
            shutil.rmtree(Path(spooled).parent, ignore_errors=True)
    _report_share(context.output, job, done, options)
    context.output.say(f"  reach  {reach(about)}")


def _share_params(paths: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    return {
        "paths": [os.path.abspath(path) for path in paths],
        "copy": options["copy"],
        "name": options["name"],
        "tags": list(options["tags"]),
        "title": options["title"],
        "description": options["description"],
        "mime": options["mime"],
        "hidden": options["hidden"],
        "follow_symlinks": options["follow_symlinks"],
        "exclude": list(options["exclude"]),
        "announce": not options["no_announce"],
        "index": not options["no_index"],
        "hash": options["hash_name"],
        "wait": options["wait"],
    }


def _spool(source: Any, name: str) -> str:
    """Standard input as a file that the daemon can copy; `name` must be one path component."""
    if "/" in name or name in ("", ".", ".."):
        raise CommandError("usage", f"{name!r} is not a file name", "Give --name one path component.")
    parent = Path(find_places().runtime)
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="stdin-", dir=parent)
    target = Path(directory) / name
    try:
        with target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1024 * 1024)
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        kind = "disk-full" if error.errno == 28 else "failed"
        raise CommandError(kind, f"could not keep standard input: {error.strerror}") from None
    return str(target)


def _report_share(output: Output, job: int, done: dict[str, Any], options: dict[str, Any]) -> None:
    output.event({**done, "event": "done", "job": job})
    for item in done.get("items") or [done]:
        where = "a copy is kept" if options["copy"] else KEPT_IN_PLACE
        count = item.get("files", 1)
        files = "" if count == 1 else f"{count:,} files, "
        output.say(f"Shared   {item['name']}  ({files}{size(item['size'])}, {where})", bold=True)
        output.say(f"  link   {item['link']}")
        if item.get("words"):
            output.say(f"  words  {' '.join(item['words'][:12])}")
        postings = item.get("postings") or {}
        asked, stored = postings.get("asked", 0), postings.get("stored", 0)
        words = f" · {stored} of {asked} keyword postings stored" if asked else ""
        output.say(f"  found  {_findable(item.get('findable') or {}, options)}{words}")
    for refusal in (done.get("skipped") or [])[:20]:
        output.note(f"  left out  {refusal.get('path')}: {refusal.get('reason')}")
    left = len(done.get("skipped") or []) - 20
    if left > 0:
        output.note(f"  … and {left} more")


def _findable(receipt: dict[str, Any], options: dict[str, Any]) -> str:
    if options["no_announce"]:
        return "by those who are connected, or have the link and this address; it is not announced"
    if options["wait"] == "none":
        return "soon: it is being announced; p2pshare shares tells how far"
    stored, asked = receipt.get("stored", 0), receipt.get("asked", 0)
    if not asked:
        return "by those who are connected, or have the link and this address; no other node was there to be told"
    return f"{stored} of {asked} node{'' if asked == 1 else 's'} hold{'s' if asked == 1 else ''} its address"


@click.command()
@click.argument("target", metavar="LINK|CID|PATH")
@command_options
def unshare(context: Context, target: str) -> None:
    """Stop serving and announcing; the file itself is never touched."""
    if os.path.exists(target):
        target = os.path.abspath(target)
    with context.node() as node:
        removed = node.call("shares.remove", target=target)
    context.output.event({"event": "done", **removed})
    count = removed.get("removed", 0)
    context.output.say(f"No longer shared: {count} item{'' if count == 1 else 's'}. The files are where they were.")


@click.command()
@command_options
def shares(context: Context) -> None:
    """What this machine shares, and whether it is still what it was."""
    with context.node() as node:
        listed = node.call("shares.list")["shares"]
    for item in listed:
        context.output.event(item)
    if not listed:
        context.output.say("Nothing is shared yet. Share something: p2pshare share PATH")
        return
    columns = [("name", "<"), ("size", ">"), ("files", ">"), ("state", "<"), ("found", ">"), ("path", "<")]
    context.output.table(columns, (_share_row(item) for item in listed))


def _share_row(item: dict[str, Any]) -> list[str]:
    findable = item.get("findable") or {}
    found = f"{findable.get('stored', 0)}/{findable.get('asked', 0)}"
    return [
        item["name"],
        size(item["size"]),
        f"{item['files']:,}",
        item["state"],
        found,
        item.get("path") or "(kept)",
    ]


@click.command()
@click.argument("target", metavar="LINK|CID|N")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Seconds to ask for.")
@command_options
def show(context: Context, target: str, timeout: float) -> None:
    """What an item is, before fetching it: tree, sizes, sources."""
    link = resolve(target)
    with context.node(start=True) as node:
        about = node.call("show", link=link, timeout=timeout)
    context.output.event(about)
    context.output.say(f"{about.get('name') or about['cid']}", bold=True)
    context.output.say(f"  cid      {about['cid']}")
    count = int(about.get("files") or 0)
    files = f", {count:,} file{'' if count == 1 else 's'}" if about.get("kind") == "directory" else ""
    context.output.say(f"  kind     {about.get('kind')}, {size(about.get('size'))}{files}")
    here = " and this machine" if about.get("here") else ""
    context.output.say(f"  sources  {about.get('sources', 0)} other{'' if about.get('sources') == 1 else 's'}{here}")
    if about.get("publisher"):
        context.output.say(f"  from     {about['publisher']}")
    entries = about.get("entries") or []
    if entries:
        context.output.table(
            [("size", ">"), ("path", "<")], ([size(entry.get("size")), entry["path"]] for entry in entries)
        )
    if about.get("more_entries"):
        context.output.say(f"… and {about['more_entries']:,} more")
    context.output.say(f"Fetch it with: p2pshare fetch {target}")
