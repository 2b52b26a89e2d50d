"""Rows of the last search, so that `fetch 1` means the first of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from p2pshare_cli.errors import CommandError
from p2pshare_cli.home import find_places

FILE_NAME = "last-search.json"
ROWS_KEPT = 1000


def remember(links: list[str]) -> None:
    """Keep the links of a search, row 1 first. A home that cannot be written keeps none."""
    path = Path(find_places().state) / FILE_NAME
    fresh = path.with_name(f"{FILE_NAME}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_text(json.dumps(links[:ROWS_KEPT]), encoding="utf-8")
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)


def resolve(target: str) -> str:
    """The link of row N when `target` is a number, else `target` itself. Raises CommandError("not-found")."""
    if not (target.isascii() and target.isdigit()):
        return target
    try:
        links = json.loads((Path(find_places().state) / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        links = []
    row = int(target)
    if not isinstance(links, list) or not 1 <= row <= len(links):
        raise CommandError("not-found", f"the last search has no row {row}", "Search first: p2pshare search WORD…")
    return str(links[row - 1])
