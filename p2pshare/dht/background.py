"""A nursery that ends with its block and leaves the block's own errors bare."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """Tasks in it are cancelled when the block is left. What the block raises is raised as it is, in no group."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001 - nothing is swallowed: raised below
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
