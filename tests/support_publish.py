"""For tests that share: a job that only remembers, and the shortest way to share a path."""

from __future__ import annotations

from typing import Any

from p2pshare.publish import ShareOptions, share
from p2pshare.store import Store
from p2pshare_protocols.cid import CID


class RememberingJob:
    """What `share` needs of a JobHandle."""

    def __init__(self, id: int = 1) -> None:
        self.id = id
        self.bytes = 0
        self.total: int | None = None
        self.reasons: list[str] = []
        self.name: str | None = None
        self.cid: str | None = None
        self.intent = ""

    def progress(self, bytes: int, total: int | None = None, **extra: Any) -> None:
        assert total is None or bytes <= total
        self.bytes, self.total = bytes, total

    def reason(self, text: str) -> None:
        self.reasons.append(text)

    def set(self, *, cid: CID | str | None = None, name: str | None = None) -> None:
        self.cid = str(cid) if cid is not None else self.cid
        self.name = name if name is not None else self.name


async def share_paths(
    store: Store, *paths: object, job: RememberingJob | None = None, **options: Any
) -> dict[str, Any]:
    """Share in place, without announcing."""
    chosen = ShareOptions(paths=tuple(map(str, paths)), **options)
    return await share(store=store, options=chosen, job=job or RememberingJob(), announce=None)
