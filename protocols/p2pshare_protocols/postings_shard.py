"""Words with more postings than a node has room for: a trie of shards by CID. The rule is protocols/index.md, "Shards".

Pure decisions of both sides; a storing node only says whether a list of its own is full.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from .cid import CID

SHARD: Final = "#"  # separates words, so that no term begins with it
LEVELS: Final = 3  # a list of 20,000, then 16, 256 and 4096 of them: 80 million postings of one word
ASKED: Final = 16  # shards that a search looks into; what is beyond is told by `complete`
HEAD: Final = 2000  # postings of a list that one question looks through: the subnets take turns, the oldest first
_DOMAIN: Final = b"p2pshare shard 1\0"
_CID_DOMAIN: Final = b"p2pshare shard of a CID 1\0"
_DIGITS: Final = "0123456789abcdef"


def prefix_of(cid: CID, level: int) -> str:
    """The first `level` hexadecimal digits of a CID's place: hashed, so that a CID's own bytes do not crowd one."""
    return hashlib.sha256(_CID_DOMAIN + cid.v1.binary).hexdigest()[:level]


def shard(term: str, prefix: str) -> str:
    """Under which term the postings of `term` stand whose CIDs have this prefix. No word is like it."""
    about = _DOMAIN + prefix.encode() + b"\0" + term.encode("utf-8", "surrogatepass")
    return SHARD + hashlib.sha256(about).hexdigest()[:40]


def children(term: str, prefix: str = "") -> list[str]:
    """The 16 shards into which the list of `term` with this prefix is parted once it is full."""
    return [shard(term, prefix + digit) for digit in _DIGITS]


def shards_of(term: str, cid: CID) -> list[str]:
    """The shards in which a posting of `term` with `cid` may stand, from the widest to the narrowest."""
    return [shard(term, prefix_of(cid, level)) for level in range(1, LEVELS + 1)]


def next_list(words: Iterable[str], at: str, cid: CID) -> str | None:
    """Where a posting goes when the list `at` is full: one of the record's `words`, or a shard of it. None: nowhere."""
    for word in words:
        ways = [word, *shards_of(word, cid)] if at.startswith(SHARD) or at == word else []
        if at in ways[:-1]:
            return ways[ways.index(at) + 1]
    return None


def agreed(said: int, answered: int) -> bool:
    """Whether a list is taken as full when `said` of those that answered say so: half of them, and two are enough.

    One liar among three then costs neither the publisher postings in shards that nobody asks, nor the asker 16
    lookups; and those who hide that a list is full must be most of those who were drawn.
    """
    return said >= 2 or (said > 0 and 2 * said >= answered)
