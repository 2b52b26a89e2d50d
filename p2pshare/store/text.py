"""How texts and paths of any provenance become values that SQLite keeps exactly.

A path is bytes on disk and a `str` with surrogate escapes in memory. TEXT columns take what strangers wrote, with
what is not Unicode replaced: SQLite and FTS5 then never see a broken character or a NUL.
"""

from __future__ import annotations

import json
from typing import Any

from p2pshare.errors import UsageError

MAX_PATH = 16 << 10  # bytes; Linux allows 4096 in one call, a path inside an item may be longer
MAX_TEXT = 64 << 10  # characters
MAX_JSON = 4 << 20  # characters


def path_to_blob(path: str) -> bytes:
    """The bytes of a path. Raises UsageError for what no file system has."""
    try:
        blob = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError("a path has characters that no file name can have") from None
    if len(blob) > MAX_PATH or b"\0" in blob:
        raise UsageError("a path is too long or has a NUL in it")
    return blob


def blob_to_path(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogateescape")


def split_path(path: str) -> tuple[bytes, bytes]:
    """(directory, name) so that `join_path` gives the path back."""
    directory, _, name = path_to_blob(path).rpartition(b"/")
    return directory, name


def join_path(directory: bytes, name: bytes) -> str:
    return blob_to_path(directory + b"/" + name) if directory or name else ""


def plain(text: str, limit: int = MAX_TEXT) -> str:
    """A text for a TEXT column: at most `limit` characters, NUL and lone surrogates replaced by U+FFFD."""
    text = text[:limit].replace("\0", "�")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def to_json(value: object) -> str:
    """JSON that holds any `str`, lone surrogates too. Raises UsageError when it is too big or not JSON."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"a value cannot be kept as JSON: {error}") from None
    if len(text) > MAX_JSON:
        raise UsageError(f"a value is longer than {MAX_JSON} characters of JSON")
    return text


def from_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
