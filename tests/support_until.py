"""Waiting, without polling, for what tasks of the same loop bring about."""

from __future__ import annotations

from collections.abc import Callable

import trio

AT_REST = 0.05  # seconds for which nothing is due


class _Look(trio.abc.Instrument):
    """Looks whenever all tasks have done what they can."""

    def __init__(self, condition: Callable[[], bool], nudge: Callable[[], object] | None) -> None:
        self.over = trio.Event()
        self.error: BaseException | None = None
        self._condition = condition
        self._nudge = nudge
        self._token = trio.lowlevel.current_trio_token()

    def before_io_wait(self, timeout: float) -> None:
        if self.over.is_set():
            return
        try:
            held = self._condition()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited
            self.error, held = error, True
        if held:
            self._token.run_sync_soon(self.over.set, idempotent=True)
        elif self._nudge is not None and timeout > AT_REST:
            self._token.run_sync_soon(self._nudge, idempotent=True)


async def until(
    condition: Callable[[], bool], seconds: float = 20.0, *, nudge: Callable[[], object] | None = None
) -> None:
    """Returns when `condition` holds; fails after `seconds`. `nudge` is called when all tasks are at rest before."""
    look = _Look(condition, nudge)
    trio.lowlevel.add_instrument(look)
    try:
        with trio.fail_after(seconds):
            await trio.lowlevel.checkpoint()
            await look.over.wait()
    finally:
        trio.lowlevel.remove_instrument(look)
    if look.error is not None:
        raise look.error
