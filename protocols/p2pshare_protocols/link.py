"""Links: what people paste to each other. Specified in protocols/link.md.

    p2pshare:CID[/NAME[/PATH…]][+FIELD…]      FIELD is LETTER:VALUE; a = address, k = key (base32)

Every character of a link that `format_link` makes is safe unquoted in sh, bash, zsh, fish and PowerShell.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from p2pshare_protocols import multibase
from p2pshare_protocols.cid import CID
from p2pshare_protocols.errors import RemoteProtocolError

SCHEME: Final = "p2pshare:"
MAX_LINK: Final = 8192  # characters
MAX_ADDRESSES: Final = 8
MAX_ADDRESS: Final = 256  # characters
MAX_KEY: Final = 64  # bytes
MAX_DEPTH: Final = 64  # components of a path
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_PLAIN_VALUE: Final = _PLAIN | frozenset("/:")


@dataclass(frozen=True, slots=True)
class Link:
    """A parsed link. `name` is what its maker called the item ("" when unknown): a hint, to be cleaned before use.

    `path` picks something inside a directory; a component that is not UTF-8 has surrogate escapes. `addresses` are
    multiaddrs that end in /p2p/PEER, not checked here. `key` is a private share's key.
    """

    cid: CID
    name: str = ""
    path: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    key: bytes | None = None


def format_link(
    target: CID | Link,
    name: str = "",
    *,
    path: Iterable[str] = (),
    addresses: Iterable[str] = (),
    key: bytes | None = None,
) -> str:
    """The link to paste, of a Link as it stands or of a CID with the rest as arguments.

    At most 8 addresses go into it. Raises ValueError when a path has no name before it.
    """
    if isinstance(target, Link):
        return format_link(target.cid, target.name, path=target.path, addresses=target.addresses, key=target.key)
    cid = target
    components = [name, *path] if name else list(path)
    if components and not name:
        raise ValueError("a link with a path needs the item's name")
    parts = [SCHEME, str(cid), *("/" + _quote(component, _PLAIN) for component in components)]
    parts += ["+a:" + _quote(address, _PLAIN_VALUE) for address in list(addresses)[:MAX_ADDRESSES]]
    if key is not None:
        parts.append("+k:" + multibase.base32_encode(key))
    return "".join(parts)


def parse_link(text: str) -> Link:
    """A `p2pshare:` link, a bare CID with or without /path, ipfs://CID/path or /ipfs/CID/path.

    Raises RemoteProtocolError with a sentence that can be shown.
    """
    text = text.strip()
    if len(text) > MAX_LINK:
        raise RemoteProtocolError(f"a link is longer than {MAX_LINK} characters")
    if any(character < " " or character == "\x7f" for character in text):
        raise RemoteProtocolError("a link has no control characters in it; are these two links?")
    lower = text[:12].lower()
    if lower.startswith(SCHEME):
        return _parse_own(text[len(SCHEME) :].removeprefix("//"))
    if lower.startswith(("ipns://", "/ipns/")):
        raise RemoteProtocolError("IPNS names are not supported; resolve it to a CID first")
    if lower.startswith("ipfs://"):
        cid, _, path = text[7:].partition("?")[0].partition("/")
        return Link(CID.parse(cid), path=_path([_unquote(part) for part in path.split("/")]))
    cid, _, path = text.removeprefix("/ipfs/").partition("/")
    return Link(CID.parse(cid), path=_path(path.split("/")))


def _parse_own(body: str) -> Link:
    # "?" is what URLs use; it is taken but never made: zsh would expand it.
    place = min((at for at in (body.find("+"), body.find("?")) if at >= 0), default=len(body))
    head, suffix = body[:place], body[place:]
    cid, _, rest = head.partition("/")
    name, _, path = rest.partition("/")
    addresses: list[str] = []
    key: bytes | None = None
    for letter, value in _fields(suffix):
        if letter == "a":
            address = _unquote(value)
            if not address.startswith("/") or len(address) > MAX_ADDRESS or len(addresses) == MAX_ADDRESSES:
                raise RemoteProtocolError("a link has an address that is none, or too many of them")
            addresses.append(address)
        elif letter == "k":
            if key is not None:
                raise RemoteProtocolError("a link has two keys")
            key = multibase.base32_decode(value)
            if not 0 < len(key) <= MAX_KEY:
                raise RemoteProtocolError("a link's key has a wrong length")
    components = _path([_unquote(part) for part in path.split("/")])
    return Link(CID.parse(cid), _unquote(name), components, tuple(addresses), key)


def _fields(suffix: str) -> list[tuple[str, str]]:
    """The suffix's fields. Letters that are not known are for later versions, and skipped by the caller."""
    if not suffix:
        return []
    separator, mark = ("+", ":") if suffix[0] == "+" else ("&", "=")
    fields = []
    for field in suffix[1:].split(separator):
        letter, found, value = field.partition(mark)
        if field and not found:
            raise RemoteProtocolError("a link has a suffix that is not understood")
        fields.append((letter, value))
    return fields


def _path(components: list[str]) -> tuple[str, ...]:
    kept = tuple(component for component in components if component)
    if any(component in {".", ".."} or "/" in component or "\0" in component for component in kept):
        raise RemoteProtocolError("a link's path has a component that is not a name")
    if len(kept) > MAX_DEPTH:
        raise RemoteProtocolError(f"a link's path has more than {MAX_DEPTH} components")
    return kept


def _quote(text: str, plain: frozenset[str]) -> str:
    """Percent-encode all but plain characters; letters, digits and marks of other scripts stay readable."""
    return "".join(
        character
        if character in plain or (character > "\x7f" and unicodedata.category(character)[0] in "LNM")
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
        for character in text
    )


def _unquote(text: str) -> str:
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
