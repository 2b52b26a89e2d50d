"""search: rows as they arrive, numbered so that `fetch N` and `show N` take them."""

from __future__ import annotations

import time
from typing import Any

import click

from p2pshare_cli import rows
from p2pshare_cli.commands import watches
from p2pshare_cli.context import Context, command_options
from p2pshare_cli.errors import CommandError
from p2pshare_cli.output import Output, short_id, size

FILTERS = ("type", "ext", "min_size", "max_size", "newer", "older", "publisher")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="WORD…")
@click.option("--type", "kind", help="video, audio, image, document, archive, software, text or other.")
@click.option("--ext", help="File-name extension, such as pdf.")
@click.option("--min-size", help="Such as 10MB.")
@click.option("--max-size", help="Such as 2GiB.")
@click.option("--newer", help="Shared within, such as 7d.")
@click.option("--older", help="Shared before, such as 30d.")
@click.option("--publisher", help="A publisher's name or peer ID.")
@click.option("--sort", type=click.Choice(["score", "name", "size", "sources"]), default="score", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds.")
@click.option("--local", is_flag=True, help="Only this machine's own catalogue.")
@click.option("--watch", is_flag=True, help="Let the daemon go on asking, and show what is new.")
@click.option("--explain", is_flag=True, help="Show each row's tier, its score and what makes it.")
@command_options
def search(context: Context, words: tuple[str, ...], **options: Any) -> None:
    """Find files by words: "phrases", -not, OR, type:video ext:pdf size:>1G newer:7d."""
    if options["watch"] and options["local"]:
        raise CommandError("usage", "--watch asks others, and --local asks nobody", "Leave one of them out.")
    begun = time.monotonic()
    query = " ".join(_as_typed(word) for word in words)
    params = {
        "query": query,
        "type": options["kind"],
        **{key: options[key] for key in ("ext", "min_size", "max_size", "newer", "older", "publisher")},
        **{key: options[key] for key in ("sort", "limit", "timeout", "local")},
        "explain": options["explain"] or not context.output.as_json,  # a person is told why; it costs nothing
    }
    found: dict[str, dict[str, Any]] = {}
    done: dict[str, Any] = {}
    with context.node(start=True) as node:
        for event in node.stream("search", **params):
            if event.get("event") == "result":
                found[event["link"]] = event
                context.output.event(event)
                context.output.status_line(f"{len(found)} found; asking further…")
            elif event.get("event") == "done":
                done = event
    listed = _ordered(list(found.values()), options["sort"])[: options["limit"]]
    rows.remember([row["link"] for row in listed])
    context.output.clear()
    context.output.event(done)
    _print(context.output, listed, done, time.monotonic() - begun, explain=options["explain"])
    if options["watch"]:
        _watch(context, params, listed)
    if not listed:
        raise click.exceptions.Exit(5)


def _watch(context: Context, params: dict[str, Any], listed: list[dict[str, Any]]) -> None:
    """Rows that are new get the next numbers, for `fetch N` in another terminal."""
    with context.node() as node:
        asked = {key: params[key] for key in ("query", *FILTERS)}
        about = node.call("watch.start", known=[row["cid"] for row in listed], **asked)
        context.output.event({"event": "watching", **about})
        context.output.note(watches.goes_on(about["watch"]))
        watches.follow(context, node, about["watch"], about["since"], [row["link"] for row in listed])


def _as_typed(word: str) -> str:
    """The shell took the quotes of a phrase away; a word with spaces in it was one."""
    if " " in word and '"' not in word:
        return f'-"{word[1:]}"' if word.startswith("-") else f'"{word}"'
    if word.startswith("--"):
        raise CommandError("usage", f"no such option: {word}", "See: p2pshare search --help")
    return word


def _ordered(found: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    if sort == "name":
        return sorted(found, key=lambda row: str(row.get("name", "")).casefold())
    return sorted(found, key=lambda row: (-(row.get(sort) or 0), str(row.get("name", ""))))


def _print(
    output: Output, listed: list[dict[str, Any]], done: dict[str, Any], elapsed: float, *, explain: bool
) -> None:
    nodes = done.get("nodes", 0)
    if listed:
        columns = [("#", ">"), ("name", "<"), ("size", ">"), ("sources", ">"), ("publisher", "<")]
        columns += [("tier", "<"), ("score", ">")] if explain else []
        columns += [("why", "<")]
        output.table(columns, (_row(number, row, explain) for number, row in enumerate(listed, 1)))
    hint = "  p2pshare fetch 1" if listed else ""
    missing = "; ".join(str(one) for one in done.get("missing") or ["not every node answered in time"])
    whole = "" if done.get("complete", True) else f" Not all: {missing}."
    results = f"{len(listed)} result{'' if len(listed) == 1 else 's'}"
    output.say(f"{results} from {nodes} node{'' if nodes == 1 else 's'} in {elapsed:.1f} s.{whole}{hint}")


def _row(number: int, row: dict[str, Any], explain: bool) -> list[str]:
    detail = [str(row.get("tier", "")), f"{row.get('score') or 0:.2f}"] if explain else []
    return [
        str(number),
        str(row.get("name", "")),
        size(row.get("size")),
        f"{row.get('sources', 0)} up",
        short_id(str(row.get("publisher") or "")),
        *detail,
        str(row.get("why", "")) + (_parts(row.get("parts") or {}) if explain else ""),
    ]


def _parts(parts: dict[str, float]) -> str:
    """What makes the score, such as " · match 0.60 + sources 0.08"; parts that give nothing are left out."""
    shown = " + ".join(f"{part} {value:.2f}" for part, value in parts.items() if round(value, 2))
    return f" · {shown}".replace("+ crowded -", "- crowded ") if shown else ""
