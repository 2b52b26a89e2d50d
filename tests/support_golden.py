"""Golden bytes live in the specification; tests read them there, so that the two cannot differ."""

from __future__ import annotations

from pathlib import Path

_PROTOCOLS = Path(__file__).parent.parent / "protocols"


def golden(document: str, section: str) -> dict[str, bytes]:
    """The `name: hex` lines of the fenced block that starts with ```section in protocols/document."""
    text = (_PROTOCOLS / document).read_text()
    _, _, rest = text.partition(f"```{section}\n")
    block, _, _ = rest.partition("```")
    assert block, f"{document} has no block {section}"
    pairs = (line.split(":") for line in block.splitlines() if line.strip())
    return {name.strip(): bytes.fromhex(value) for name, value in pairs}
