"""The DHT as a place to ask: nodes that keep the postings of the query's rarest term filter the whole query.

Nothing that they say is believed: every record's signature is checked, and its own words must match.
"""

from __future__ import annotations

import functools
import math
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import trio

from p2pshare.dht.api import DHT, Provider
from p2pshare.errors import P2PShareError
from p2pshare.index.keeping import Keeper, terms_of
from p2pshare.index.lines import open_line
from p2pshare.index.probe import Probe
from p2pshare.index.regions import Regions
from p2pshare.index.tiers import Answers, Question, TierName
from p2pshare.net.api import Network
from p2pshare_protocols import index_hot, item_record, multiaddr, postings_shard
from p2pshare_protocols import index_postings as wire
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.index_messages import Row
from p2pshare_protocols.item_record import ItemRecord, Signed
from p2pshare_protocols.postings_ask import FEW, FIRST, Draw, Named, Pointer, pointers
from p2pshare_protocols.postings_room import subnets
from p2pshare_protocols.query import Query
from p2pshare_protocols.query_rank import rank

ASK_TIME: Final = 3.0  # seconds for one node
TOGETHER: Final = 0.25  # seconds that the first answer waits for others, so that the newest record is shown
TIME: Final = 8.0  # seconds for the tier at most
_ALTERNATIVES: Final = 4  # terms asked for when every one of them may lead to a match
_COUNTS: Final = 10_000  # terms whose frequency is remembered


class Counts:
    """How often terms are, as answers told; what is not known is taken as rare when it is long."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, int] = OrderedDict()

    def learn(self, counts: dict[str, int], asked: Iterable[str] = ()) -> None:
        for term, count in {**dict.fromkeys(asked, 0), **counts}.items():
            self._known[term] = max(count, 0)
            self._known.move_to_end(term)
        while len(self._known) > _COUNTS:
            self._known.popitem(last=False)

    def rarest(self, terms: Iterable[str]) -> str:
        return min(terms, key=lambda term: (self._known.get(term, 200), -len(term), term.isdigit()))

    def of(self, term: str) -> int | None:
        return self._known.get(term)


@dataclass(slots=True)
class _Search:
    """What came so far: the newest record of each thing, and the rows that were told."""

    question: Question
    newest: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    checked: set[Signed] = field(default_factory=set)
    rows: dict[bytes, Row] = field(default_factory=dict)
    waiting: list[Row] = field(default_factory=list)
    held: list[Row] = field(default_factory=list)  # until others have confirmed that there is nothing else
    cut: bool = False  # an answer left something out
    asked: int = 0  # nodes
    parted: Counter[str] = field(default_factory=Counter)  # lists that are full, as so many nodes said
    full: dict[tuple[str, bytes], list[Named]] = field(default_factory=dict)  # publishers with more in their overflow

    @property
    def overflowing(self) -> list[Pointer]:
        return [Pointer(term, tuple(named)) for (term, _), named in self.full.items()]

    def take(self, signed: Signed) -> None:
        """Keep a record that is what it says: canonical, matching, the newest known, signed."""
        if signed in self.checked:
            return
        try:
            record = item_record.decode(signed.body)
        except RemoteProtocolError:
            return
        if not isinstance(record, ItemRecord) or not signed.holds():
            return
        row = record.row(signed.publisher)
        key = (signed.publisher, record.identity)
        if self.newest.get(key, -1) >= record.sequence or not self.question.query.matches(row.record()):
            return
        self.checked.add(signed)
        if key in self.newest:
            for rows in (self.waiting, self.held):
                rows[:] = [one for one in rows if one.cid != row.cid or one.publisher != row.publisher]
        self.newest[key] = record.sequence
        self.waiting.append(row)


class _Panel:
    """Nodes that are asked side by side, as `draw` says."""

    def __init__(self, draw: Draw[Provider], nursery: trio.Nursery, ask: Callable[[Provider], Awaitable[bool]]) -> None:
        self._draw = draw
        self._nursery = nursery
        self._ask = ask
        self._send, self._receive = trio.open_memory_channel[tuple[Provider, bool]](math.inf)
        self.pending: set[Provider] = set()

    @property
    def answered(self) -> int:
        return self._draw.answered

    def launch(self, nodes: list[Provider]) -> None:
        self.pending.update(nodes)
        for node in nodes:
            self._nursery.start_soon(self._run, node)

    async def _run(self, node: Provider) -> None:
        self._send.send_nowait((node, await self._ask(node)))

    async def one(self) -> None:
        """Wait for one that answers or fails."""
        node, answers = await self._receive.receive()
        self.pending.discard(node)
        (self._draw.heard if answers else self._draw.failed)(node)

    async def hear(self) -> None:
        """Until all answered; or, once one did, for a moment longer. Others take the place of those that are late."""
        deadline = trio.current_time() + 2 * TOGETHER if self.answered else math.inf
        while self.pending:
            with trio.move_on_at(deadline) as late:
                await self.one()
            if late.cancelled_caught:
                for node in self.pending:
                    self._draw.failed(node)
                return
            if self.answered:
                deadline = min(deadline, trio.current_time() + TOGETHER)


class DhtTier:
    """`keeper` is our own store of postings, or None when this node keeps none. `trusted`: publishers' keys (32 bytes)
    that this machine's owner trusts; `wall_clock` gives unix seconds."""

    name: TierName = "dht"

    def __init__(
        self,
        net: Network,
        dht: DHT,
        regions: Regions,
        *,
        keeper: Keeper | None = None,
        rng: random.Random | None = None,
        trusted: Callable[[bytes], bool] = lambda _: False,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._net = net
        self._dht = dht
        self._trusted = trusted
        self._now = wall_clock
        self._regions = regions
        self._keeper = keeper
        self._rng = rng or random.SystemRandom()
        self._probe = Probe(net, dht)
        self._counts = Counts()

    async def ask(self, question: Question, answers: Answers) -> None:
        search = _Search(question)
        try:
            with trio.move_on_after(min(TIME, 0.8 * question.timeout)) as scope:
                await self._ask(search, answers)
                await self._flush(search, answers)
                await self._probe.top(_best(search), answers)
        finally:
            answers.asked += search.asked
        if scope.cancelled_caught:
            await self._flush(search, answers)
        answers.complete &= not scope.cancelled_caught and not search.cut

    async def _ask(self, search: _Search, answers: Answers) -> None:
        terms = self._alternatives(search.question.query)
        if not terms:
            search.cut = bool(self._dht.status().get("nodes"))
            await trio.lowlevel.checkpoint()
            return
        for term in terms:
            await self._ask_term(term, search, answers)
        await self._follow(search, answers)
        if search.cut and len(terms) == 1:
            rarer = self._counts.rarest(terms_of(search.question.query) or terms)
            if rarer != terms[0]:
                search.cut = False
                await self._ask_term(rarer, search, answers)

    async def _follow(self, search: _Search, answers: Answers) -> None:
        """Look where publishers have what is more than one may have under a word."""
        everything = search.question.everything
        known = pointers(search.overflowing, self._now(), self._trusted, everything=everything)
        search.cut |= len(search.full) > len(known)
        async with trio.open_nursery() as nursery:
            for one in known:
                nursery.start_soon(self._ask_term, item_record.overflow(one.term, one.publisher), search, answers)

    def _alternatives(self, query: Query) -> list[str]:
        """The terms to ask for: the rarest that must hold, or all of a group; [] when no word is asked for."""
        if needed := terms_of(query):
            return [self._counts.rarest(needed)]
        groups = [group for group in query.any_of if len(group) <= _ALTERNATIVES]
        if groups:
            group = min(groups, key=len)
            return list(dict.fromkeys(self._counts.rarest(clause.split(" ")) for clause in group))
        kinds = [kind for kind in query.type if kind != "other"]
        return kinds if len(kinds) == len(query.type) <= _ALTERNATIVES else []

    async def _ask_term(self, term: str, search: _Search, answers: Answers) -> None:
        if self._keeper is not None:
            own, complete = self._keeper.look_up(term, search.question.query, search.question.limit)
            search.cut |= not complete
            for one in own:
                search.take(one.signed)
        nodes, others = await self._regions.around(term)
        draw = self._draw(nodes)
        answered = 0
        if others and (self._dht.size() or 0) >= index_hot.AROUND:
            answered = await self._ask_copy(term, draw, self._rng.choice(others), search, answers)
        if not answered:
            answered = await self._ask_some(term, draw, search, answers)
        await self._flush(search, answers)
        answers.nodes += answered
        search.cut |= bool(nodes) and not answered
        if postings_shard.agreed(search.parted[term], answered) and not term.startswith(item_record.OVERFLOW):
            if term.startswith(postings_shard.SHARD):
                search.cut = True  # more shards than a search looks into: what it has is the head of each
                return
            await self._ask_shards(term, search, answers)

    async def _ask_shards(self, term: str, search: _Search, answers: Answers) -> None:
        async with trio.open_nursery() as nursery:
            for one in postings_shard.children(term):
                nursery.start_soon(self._ask_term, one, search, answers)

    def _draw(self, nodes: list[Provider]) -> Draw[Provider]:
        drawn = list(nodes)
        self._rng.shuffle(drawn)
        return Draw(drawn, _subnet)

    async def _ask_copy(
        self, term: str, draw: Draw[Provider], other: Provider, search: _Search, answers: Answers
    ) -> int:
        """Ask a node that may have a copy of a hot answer, and one that keeps the term: how many answered when these
        two are enough; else 0, and the others are to be asked too.

        They are when the copy has all that the storing node tells, or this one says that there is more than was asked
        for. Everybody's records are checked.
        """
        query, limit, timeout, _ = search.question
        copied: set[Signed] | None = None
        async with trio.open_nursery() as nursery:
            panel = _Panel(draw, nursery, functools.partial(self._ask_node, term, search, answers))
            panel.launch(draw.first(1))
            try:
                async with open_line(self._net, other.peer_id, min(ASK_TIME, timeout)) as line:
                    records, end = await line.find(wire.Find(term, query, limit))
                if end.hot:
                    copied = {signed for signed, _ in records}
            except P2PShareError:
                self._regions.forget_node(other.peer_id)
            await panel.hear()
            known = set(search.checked)
            for signed in copied or ():
                search.take(signed)
            nursery.cancel_scope.cancel()
        enough = copied is not None and panel.answered and (search.cut or known <= copied)
        return 1 + panel.answered if enough else 0

    async def _ask_some(self, term: str, draw: Draw[Provider], search: _Search, answers: Answers) -> int:
        """Ask 3, then others until 5 in 4 subnets answered; how many did.

        What came is shown when those who are to be heard were heard, or had a moment for it: an older record that some
        agree on is then known as older. When many records came from the first three, half of what is wanted is shown at
        once, and the rest behind what the others know besides: three who agree on rows of their own hide nothing so.
        Later answers are shown as they come.
        """
        async with trio.open_nursery() as nursery:
            panel = _Panel(draw, nursery, functools.partial(self._ask_node, term, search, answers))
            panel.launch(draw.first(FIRST - draw.answered))
            await panel.hear()
            if len(search.newest) >= FEW:
                await self._show_some(search, answers)
            panel.launch(draw.more())
            await panel.hear()
            await self._flush(search, answers)
            while True:
                panel.launch(draw.more())
                if not panel.pending:
                    break
                await panel.one()
                await self._flush(search, answers)
        return panel.answered

    async def _ask_node(self, term: str, search: _Search, answers: Answers, node: Provider) -> bool:
        """Whether it answered as it should."""
        search.asked += 1
        query, limit, timeout, _ = search.question
        try:
            async with open_line(self._net, node.peer_id, min(ASK_TIME, timeout)) as line:
                records, end = await line.find(wire.Find(term, query, limit))
        except P2PShareError:
            self._regions.forget_node(node.peer_id)
            return False
        for signed, _ in records:
            search.take(signed)
        search.cut |= not end.complete
        for named in end.full:
            search.full.setdefault((term, named.publisher), []).append(named)
        search.parted[term] += end.sharded
        self._counts.learn(end.counts, [term])
        return True

    async def _show_some(self, search: _Search, answers: Answers) -> None:
        """Half of what is wanted at most, so that there is room for what others know; publishers take turns."""
        turns: Counter[str] = Counter()
        order: list[tuple[int, int]] = []
        for number, row in enumerate(search.waiting):
            order.append((turns[row.publisher], number))
            turns[row.publisher] += 1
        count = max(0, search.question.limit // 2 - len(search.rows))
        rows = [search.waiting[number] for _, number in sorted(order)]
        search.held, search.waiting = search.held + rows[count:], rows[:count]
        held, search.held = search.held, []
        await self._flush(search, answers)
        search.held = held + search.held

    async def _flush(self, search: _Search, answers: Answers) -> None:
        """Show what is known, what came last first where some was held back."""
        waiting = search.waiting + search.held
        search.waiting, search.held = [], []
        for row in waiting:
            search.rows[row.cid.v1.binary] = row
            await answers.tell(row, "")


def _subnet(node: Provider) -> str:
    ip = multiaddr.ip_of(node.addresses[0]) if node.addresses else None
    return subnets(str(ip))[0]


def _best(search: _Search) -> list[Row]:
    query = search.question.query
    return sorted(search.rows.values(), key=lambda row: -rank(query, row.record()).score)
