"""What the catalogue needs now and then, whatever else goes on."""

from __future__ import annotations

import logging
from typing import Final

import trio

from p2pshare.errors import LocalError
from p2pshare.store import Store

INTERVAL: Final = 120.0  # seconds
_log = logging.getLogger(__name__)


async def keep_up(store: Store) -> None:
    """Finish removals, write counters, remake the ballast; at the start and every two minutes, until cancelled."""
    while True:
        try:
            store.maintain()
        except LocalError as error:
            _log.warning("the catalogue could not be tidied: %s", error)
        await trio.sleep(INTERVAL)
