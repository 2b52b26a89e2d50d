"""Bounded subscriptions to peers' coming and going: a subscriber that lags loses the oldest, and delays nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from p2pshare.net.api import PeerEvent

CAPACITY = 1024


class PeerEvents:
    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._subscribers: dict[trio.MemorySendChannel[PeerEvent], trio.MemoryReceiveChannel[PeerEvent]] = {}

    def publish(self, event: PeerEvent) -> None:
        for send, receive in self._subscribers.items():
            try:
                send.send_nowait(event)
            except trio.WouldBlock:
                receive.receive_nowait()
                send.send_nowait(event)

    @contextmanager
    def subscribe(self) -> Iterator[trio.MemoryReceiveChannel[PeerEvent]]:
        send, receive = trio.open_memory_channel[PeerEvent](self._capacity)
        with send, receive, receive.clone() as spill:
            self._subscribers[send] = spill
            try:
                yield receive
            finally:
                del self._subscribers[send]
