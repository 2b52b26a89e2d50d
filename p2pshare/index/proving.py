"""Proof of possession: who placed a record is asked, seldom, for a random part of what the record names.

What comes is checked against the CID, so that a publisher cannot name what its node does not hold (it can at most
fetch it first). One record at a time, one block of each level of its tree: 2 MiB a block at most.
"""

from __future__ import annotations

import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from p2pshare.errors import LocalError, P2PShareError
from p2pshare.net.api import Network, Stream
from p2pshare.store import Store
from p2pshare.store.postings import Doubtful
from p2pshare_protocols import exchange_messages as exchange
from p2pshare_protocols import item_record, unixfs
from p2pshare_protocols.cid import CID
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.item_record import ItemRecord

PAUSE: Final = 300.0  # seconds between two questions: 288 a day, mostly of 256 KiB, under 1 kB/s
AGAIN: Final = 24 * 3600.0  # seconds until the same publisher is asked again
TIME: Final = 30.0  # seconds for one
LEVELS: Final = 6  # blocks from a file's root to a leaf: 174 links each reach 2^46 chunks
_ASKED: Final = 10_000  # publishers' nodes that are remembered as asked

_log = logging.getLogger(__name__)


class NotHeld(Exception):
    """The peer answered, and does not have it."""


class Prover:
    """`wall_clock` gives unix seconds, `rng` what is asked for: the publisher must not know it before."""

    def __init__(
        self,
        net: Network,
        store: Store,
        *,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._net = net
        self._postings = store.postings
        self._now = wall_clock
        self._rng = rng or random.SystemRandom()
        self._asked: OrderedDict[int, float] = OrderedDict()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(PAUSE * self._rng.uniform(0.5, 1.5))
            try:
                await self.once()
            except LocalError as error:
                _log.warning("what was proven could not be remembered: %s", error)

    async def once(self) -> bool | None:
        """Ask for a part of one record: whether its sender has it; None when nobody was to be asked, or is not there.

        Raises LocalError.
        """
        await trio.lowlevel.checkpoint()
        one = self._draw()
        if one is None:
            return None
        record = item_record.decode(one.body)
        if not isinstance(record, ItemRecord) or record.cid.v1.inline is not None:
            return None
        try:
            with trio.fail_after(TIME):
                await self._take_part(one.sender, record.cid.v1)
        except (NotHeld, RemoteProtocolError) as error:
            _log.debug("%s does not hold what it publishes: %s", one.sender, error)
            self._postings.prove(one, 0)
            return False
        except (P2PShareError, trio.BrokenResourceError, trio.TooSlowError):
            return None
        self._postings.prove(one, self._now())
        return True

    def _draw(self) -> Doubtful | None:
        """A random record of a random publisher's node that was not asked for a day."""
        now = self._now()
        self._asked = OrderedDict((key, at) for key, at in self._asked.items() if now - at < AGAIN)
        start = self._rng.randrange(self._postings.newest_owner() + 1)
        for _ in range(8):
            one = self._postings.doubtful(now, start, self._rng.random())
            if one is None:
                start = 0
            elif one.owner in self._asked:
                start = one.owner + 1
            else:
                self._asked[one.owner] = now
                while len(self._asked) > _ASKED:
                    self._asked.popitem(last=False)
                return one
        return None

    async def _take_part(self, peer_id: str, cid: CID) -> None:
        """The root's block, then one of a random way down to a leaf. Raises NotHeld and what the network raises."""
        async with await self._net.open_stream(peer_id, [exchange.PROTOCOL], timeout=TIME) as stream:
            for number in range(1, LEVELS + 1):
                node = unixfs.decode_node(cid, await self._block(stream, number, cid))
                links = [one for one in node.links if one.cid.v1.inline is None]
                if not links:
                    return
                cid = self._rng.choice(links).cid.v1

    async def _block(self, stream: Stream, number: int, cid: CID) -> bytes:
        await stream.send_all(exchange.encode(exchange.Blocks(number, (cid.binary,))))
        length = exchange.header_length(await stream.receive_exactly(4))
        answer = exchange.decode(await stream.receive_exactly(length))
        if isinstance(answer, exchange.BlocksData) and answer.id == number and answer.sizes == (exchange.Mark.BUSY,):
            raise trio.BrokenResourceError  # not now; that says nothing
        if not isinstance(answer, exchange.BlocksData) or answer.id != number or len(answer.sizes) != 1:
            raise NotHeld("it refuses a block")
        if answer.sizes[0] < 0:
            raise NotHeld("a block is missing")
        block = await stream.receive_exactly(answer.payload)
        if not answer.end:
            raise NotHeld("an answer to one block does not end")
        if not await trio.to_thread.run_sync(cid.matches, block):
            raise NotHeld("a block is another one")
        return block
