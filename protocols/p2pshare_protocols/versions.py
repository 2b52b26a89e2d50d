"""Names that are versions of one another: raft-v1.pdf and raft-v2.pdf, "raft (1).pdf", "raft - copy.pdf".

Only what says of itself that it is a version: years, episode and page numbers tell different things apart.
"""

from __future__ import annotations

import re
from typing import Final

from .terms import normalise

MAX_NAME: Final = 255  # characters looked at
_ENDING: Final = re.compile(r"\.[\w]{1,8}(?:\.(?:gz|xz|bz2|zst))?\Z")
_MARK: Final = re.compile(
    r"""(?: [\s._-]* \( \d{1,3} \)                   # "raft (1)", as browsers write it
        | [\s._-]+ copy (?: \s* \(? \d{1,3} \)? )?   # "raft - copy 2"
        | [\s._-]+ (?: v | ver | version | rev | r ) [\s._-]? \d{1,4} (?: \.\d{1,4} ){0,3}
          (?: [a-z] | [-_.]?(?:rc|beta|alpha)\d{0,2} )?
        | [\s._-]+ (?: draft | final )
    )\Z""",
    re.VERBOSE,
)


def bundle_of(name: str) -> str:
    """The same text for all versions of a name: what it is without its marks, with its ending.

    For a name without a mark it is the name itself, so that the original is in the bundle of its copies.
    """
    text = normalise(name[:MAX_NAME])
    ending = _ENDING.search(text)
    # A version such as ".2" is no ending: "raft-v1.2".
    tail = ending[0] if ending is not None and not ending[0].lstrip(".").isdigit() else ""
    stem = text.removesuffix(tail) if tail else text
    for _ in range(3):  # "raft-v2 - copy (1)"
        shorter = _MARK.sub("", stem)
        if shorter == stem or not shorter:
            break
        stem = shorter
    return " ".join(re.split(r"[\s._-]+", stem)).strip() + tail
