"""The room that a fetch needs is reserved beside its download, so that the first pieces need not wait for the disk."""

from __future__ import annotations

import threading

import trio

from p2pshare.content.destination import Destination
from p2pshare.errors import LocalError, P2PShareError
from p2pshare.exchange.download import Download


async def run_with_room(destination: Destination, download: Download) -> None:
    """Run the download while its large files get their room. Raises LocalError kinds of the disk."""
    stop = threading.Event()

    async def reserve() -> None:
        try:
            await trio.to_thread.run_sync(destination.reserve, stop.is_set)
        except LocalError as error:
            download.fail(error)

    failure: P2PShareError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reserve)
        try:
            await download.run()
        except P2PShareError as error:
            failure = error
        finally:
            stop.set()
    if failure is not None:
        raise failure
