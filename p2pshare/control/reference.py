"""`python -m p2pshare.control.reference [--check]`: write docs/control-api.md and docs/configuration.md.

Both are made from the tables that the daemon runs by; a test fails when the files are stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from p2pshare.control.methods import METHODS
from p2pshare.control.registry import REQUIRED, Method, Param
from p2pshare_protocols import config_schema
from p2pshare_protocols.errors import KINDS

DOCS = Path(__file__).parents[2] / "docs"
MADE = "<!-- Made by `python -m p2pshare.control.reference`; change the tables in the code instead. -->"


def control_api() -> str:
    """The text of docs/control-api.md."""
    lines = [
        "# The control API",
        "",
        MADE,
        "",
        "Every method of the daemon's control socket. How to speak to the socket (framings, streams, bounds) is in",
        "[protocols/control.md](../protocols/control.md). Parameters are by name; only required ones must be given.",
        "Keys are only ever added to results, so ignore those you do not know.",
        "",
        "| method | |",
        "|---|---|",
        *(f"| [`{method.name}`](#{_anchor(method.name)}) | {method.doc} |" for method in METHODS.values()),
        "",
    ]
    for method in METHODS.values():
        lines += _section(method)
    lines += [
        "## Error kinds",
        "",
        "`error.data.kind` of every error; `p2pshare` ends with the exit code.",
        "",
        "| kind | exit code | worth a retry | meaning |",
        "|---|---|---|---|",
    ]
    for kind, about in KINDS.items():
        lines.append(f"| `{kind}` | {about.exit_code} | {'yes' if about.retryable else 'no'} | {about.meaning} |")
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """The text of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        MADE,
        "",
        "The file is `config.toml` in the home (`p2pshare config path` prints it), in TOML: `network.listen` is",
        "`listen` in the table `[network]`. `p2pshare config set KEY VALUE` changes it and keeps your comments;",
        "`p2pshare daemon run --set KEY=VALUE` overrides it for one run. The daemon reads it when it starts.",
        "An unknown key or a bad value is an error that names it, before anything starts.",
        "",
        "| key | default | takes | meaning |",
        "|---|---|---|---|",
    ]
    for key in config_schema.KEYS.values():
        default = config_schema.show(key.default)
        lines.append(f"| `{key.name}` | `{default}` | {key.allowed} | {key.doc} |")
    return "\n".join(lines) + "\n"


def _anchor(name: str) -> str:
    return name.replace(".", "").lower()  # as GitHub makes it of a heading


def _section(method: Method) -> list[str]:
    marks = [word for word, true in (("stream", method.is_stream), ("changes something", method.changes)) if true]
    lines = [f"## {method.name}", "", method.doc + (f" ({', '.join(marks)})" if marks else ""), ""]
    if method.params:
        lines += ["| parameter | takes | default | |", "|---|---|---|---|", *map(_row, method.params), ""]
    if method.event is not None:
        lines += [f"Events: {method.event}", ""]
    lines += [f"Result: {method.result}", ""]
    if method.errors:
        lines += ["Errors: " + ", ".join(f"`{kind}`" for kind in method.errors), ""]
    request = {"jsonrpc": "2.0", "id": 1, "method": method.name}
    if method.example:
        request["params"] = dict(method.example)
    return [*lines, "```json", json.dumps(request), "```", ""]


def _row(param: Param) -> str:
    if param.default is REQUIRED:
        default = "required"
    else:
        shown = list(param.default) if isinstance(param.default, tuple) else param.default
        default = "" if shown is None else f"`{json.dumps(shown)}`"
    return f"| `{param.name}` | {param.takes} | {default} | {param.doc} |"


def stale() -> list[str]:
    """The names of the documents that are not what they would be made."""
    return [name for name, text in _documents().items() if not _is(DOCS / name, text)]


def _documents() -> dict[str, str]:
    return {"control-api.md": control_api(), "configuration.md": configuration()}


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def main() -> int:
    if "--check" in sys.argv[1:]:
        for name in stale():
            print(f"docs/{name} is stale: python -m p2pshare.control.reference", file=sys.stderr)
        return bool(stale())
    for name, text in _documents().items():
        (DOCS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
