"""The serving side, spoken to frame by frame, and through `Source`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pshare.errors import NotFound, SourceChanged
from p2pshare.exchange.partial import Partials
from p2pshare.exchange.server import ExchangeServer, Limits
from p2pshare.exchange.source import Arrival, Source
from p2pshare.exchange.wire import FrameReader
from p2pshare.store import ItemDraft, Store, open_store
from p2pshare_protocols import dagpb
from p2pshare_protocols import exchange_messages as x
from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from tests.support_exchange import DictReader, MemoryStream, World, stream_pair


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        yield store


def leaf(text: str) -> tuple[bytes, bytes]:
    return CID.of(RAW, text.encode()).binary, text.encode()


A, B, C = leaf("aaaa"), leaf("bb"), leaf("c" * 700_000)
LEAVES = dict([A, B, C])


async def serve(server: ExchangeServer, nursery: trio.Nursery, peer: str = "asker") -> MemoryStream:
    mine, theirs = stream_pair(peer, "holder", x.PROTOCOL)
    nursery.start_soon(server.serve, theirs)
    return mine


async def frame(frames: FrameReader) -> tuple[x.Message, bytes]:
    message = await frames.header()
    assert message is not None
    buffer = memoryview(bytearray(getattr(message, "payload", 0)))
    await frames.payload(buffer, lambda count: None)
    return message, bytes(buffer)


@asynccontextmanager
async def talking(
    store: Store, reader: DictReader, **options: object
) -> AsyncIterator[tuple[MemoryStream, FrameReader, trio.Nursery]]:
    async with trio.open_nursery() as nursery:
        server = ExchangeServer(World(nursery).node("holder"), reader, store, **options)  # type: ignore[arg-type]
        stream = await serve(server, nursery)
        yield stream, FrameReader(stream), nursery
        await stream.reset()


async def test_blocks_come_in_order_with_marks_for_what_does_not_come(store: Store) -> None:
    reader = DictReader(LEAVES)
    gone, changed = leaf("gone"), leaf("changed")
    reader.failing[changed[0]] = SourceChanged("the file changed")
    async with talking(store, reader) as (stream, frames, _):
        await stream.send_all(x.encode(x.Blocks(1, (A[0], gone[0], B[0], changed[0], A[0]))))
        assert await frame(frames) == (x.BlocksData(1, (4, -1, 2, -2, 4), True), b"aaaabbaaaa")


async def test_large_answers_are_cut_into_frames_between_blocks(store: Store) -> None:
    async with talking(store, DictReader(LEAVES)) as (stream, frames, _):
        await stream.send_all(x.encode(x.Blocks(1, (C[0], C[0], C[0], A[0]))))
        first, _ = await frame(frames)
        second, payload = await frame(frames)
        assert first == x.BlocksData(1, (700_000, 700_000), False)
        assert second == x.BlocksData(1, (700_000, 4), True)
        assert payload == C[1] + A[1]


async def test_requests_are_pipelined_and_an_eof_lets_the_answers_finish(store: Store) -> None:
    async with talking(store, DictReader(LEAVES)) as (stream, frames, _):
        await stream.send_all(b"".join(x.encode(x.Blocks(id, (C[0],))) for id in range(1, 9)))
        await stream.send_eof()
        assert [(await frame(frames))[0].id for _ in range(8)] == list(range(1, 9))  # type: ignore[union-attr]
        assert await frames.header() is None


def tree() -> tuple[bytes, dict[bytes, bytes]]:
    """root -> (x, y), x -> (z, a leaf), y -> (z): z stands in two places."""

    def node(*children: bytes) -> tuple[bytes, bytes]:
        links = [dagpb.Link(CID.from_binary(child), str(n).encode(), 1) for n, child in enumerate(children)]
        block = dagpb.encode(links, b"\x08\x01")
        return CID.of(DAG_PB, block).binary, block

    z = node()
    one, two = node(z[0], A[0]), node(z[0])
    root = node(one[0], two[0])
    return root[0], dict([root, one, z, two])


async def test_nodes_come_depth_first_each_once_without_leaves(store: Store) -> None:
    root, nodes = tree()
    async with talking(store, DictReader({**nodes, **LEAVES})) as (stream, frames, _):
        await stream.send_all(x.encode(x.Nodes(5, (root, A[0]))))
        answer, payload = await frame(frames)
        assert isinstance(answer, x.NodesData)
        assert answer.cids == tuple(nodes)
        assert payload == b"".join(nodes.values())
        assert answer.end


async def test_nodes_that_are_not_held_are_left_out_with_what_hangs_under_them(store: Store) -> None:
    root, nodes = tree()
    held = {cid: block for n, (cid, block) in enumerate(nodes.items()) if n in (0, 3)}
    async with talking(store, DictReader(held)) as (stream, frames, _):
        await stream.send_all(x.encode(x.Nodes(5, (root,))))
        answer, _ = await frame(frames)
        assert isinstance(answer, x.NodesData)
        assert answer.cids == tuple(held)
        await stream.send_all(x.encode(x.Nodes(6, (C[0],))))
        assert await frame(frames) == (x.NodesData(6, (), (), True), b"")


class RunningFetch:
    size = 6

    def __init__(self, root: bytes, path: Path) -> None:
        self.root, self.path = root, path

    def leaves(self) -> Bitmap:
        return Bitmap.from_bytes(b"\x40", 2)

    def locate(self, cid: bytes) -> tuple[str, int, int] | None:
        return (str(self.path), 4, 2) if cid == B[0] else None


async def test_what_is_held_of_a_root(store: Store, tmp_path: Path) -> None:
    item = store.items.add(ItemDraft(cid=CID.from_binary(C[0]), name="c", size=700_000, path="/c"))
    partials = Partials()
    (tmp_path / "x.part").write_bytes(b"....bb")
    partial = RunningFetch(A[0], tmp_path / "x.part")
    async with talking(store, DictReader({}), partials=partials) as (stream, frames, _):
        with partials.registered(partial):
            for id, cid in enumerate((C[0], A[0], B[0]), 1):
                await stream.send_all(x.encode(x.Have(id, cid)))
            assert await frame(frames) == (x.Held(1, x.Holding.ALL, 0, 700_000), b"")
            assert await frame(frames) == (x.Held(2, x.Holding.PART, 2, 6), b"\x40")
            assert await frame(frames) == (x.Held(3, x.Holding.NOTHING), b"")
            await stream.send_all(x.encode(x.Blocks(4, (B[0], A[0]))))
            assert await frame(frames) == (x.BlocksData(4, (2, -1), True), b"bb")
            (tmp_path / "x.part").write_bytes(b"....bX")
            await stream.send_all(x.encode(x.Blocks(5, (B[0],))))
            assert await frame(frames) == (x.BlocksData(5, (-1,), True), b"")
        store.items.set_state(item.id, "changed")
        for id, cid in enumerate((C[0], A[0]), 6):
            await stream.send_all(x.encode(x.Have(id, cid)))
            assert await frame(frames) == (x.Held(id, x.Holding.NOTHING), b"")


async def test_a_cancelled_answer_still_ends_and_is_not_read(store: Store) -> None:
    reader = DictReader(LEAVES)
    async with talking(store, reader) as (stream, frames, _):
        requests = [x.Blocks(id, (C[0],)) for id in range(1, 9)]
        await stream.send_all(b"".join(map(x.encode, [*requests, x.Cancel(8), x.Cancel(99)])))
        answers = [(await frame(frames))[0] for _ in requests]
        assert answers[-1] == x.BlocksData(8, (), True)
        assert len(reader.reads) == 7


async def test_a_bad_report_makes_the_reader_suspicious_and_is_limited(store: Store) -> None:
    reader = DictReader(LEAVES)
    async with talking(store, reader) as (stream, frames, _):
        await stream.send_all(x.encode(x.Bad(A[0])) * 17)
        with pytest.raises(trio.BrokenResourceError):
            await frames.header()
    assert reader.suspected == [CID.from_binary(A[0])] * 16


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        x.encode(x.Blocks(1, (A[0],))) * 300,
        x.encode(x.Have(1, A[0])) + x.encode(x.Have(1, A[0])),
        x.encode(x.Held(1, x.Holding.ALL)),
        x.encode(x.Bad(b"junk")),
        x.encode(x.Cancel(1))[:-1],
    ],
)
async def test_what_is_not_allowed_resets_the_stream_and_nothing_else(store: Store, junk: bytes) -> None:
    async with talking(store, DictReader(LEAVES)) as (stream, frames, nursery):
        await stream.send_all(junk)
        await stream.send_eof()
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            while await frames.header() is not None:
                raise EOFError
        assert nursery.cancel_scope.cancel_called is False


async def test_streams_of_a_peer_and_of_all_are_bounded(store: Store) -> None:
    async with trio.open_nursery() as nursery:
        limits = Limits(streams=3, streams_per_peer=2)
        server = ExchangeServer(World(nursery).node("holder"), DictReader(LEAVES), store, limits=limits)
        streams = []
        for peer in ("p", "p", "p", "q", "r"):
            streams.append(await serve(server, nursery, peer))
            await trio.testing.wait_all_tasks_blocked()
        alive = []
        for stream in streams:
            try:
                await stream.send_all(x.encode(x.Have(1, A[0])))
                alive.append((await FrameReader(stream).header()) is not None)
            except trio.BrokenResourceError:
                alive.append(False)
            await trio.testing.wait_all_tasks_blocked()
        assert alive == [True, True, False, True, False]
        for stream in streams:
            await stream.reset()
        await trio.testing.wait_all_tasks_blocked()
        again = await serve(server, nursery, "p")
        await again.send_all(x.encode(x.Have(1, A[0])))
        assert await FrameReader(again).header() == x.Held(1, x.Holding.NOTHING)
        await again.reset()


async def test_a_peer_that_does_not_read_holds_a_bounded_number_of_blocks_and_is_let_go(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    reader = DictReader(LEAVES)
    async with talking(store, reader, limits=Limits(idle=60)) as (stream, frames, _):
        await stream.send_all(b"".join(x.encode(x.Blocks(id, (C[0], C[0]))) for id in range(200)))
        await trio.testing.wait_all_tasks_blocked()
        assert len(reader.reads) <= 8
        await trio.sleep(61)
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await frame(frames)


async def test_sent_bytes_are_counted_for_the_item(store: Store) -> None:
    item = store.items.add(ItemDraft(cid=CID.from_binary(C[0]), name="c", size=700_000, path="/c"))
    async with talking(store, DictReader(LEAVES)) as (stream, frames, _):
        await stream.send_all(x.encode(x.Have(1, C[0])) + x.encode(x.Blocks(2, (C[0],))))
        await frame(frames)
        await frame(frames)
    assert store.items.get(item.id).bytes_sent == 700_000


async def test_a_source_sorts_answers_to_who_asked(store: Store) -> None:
    root, nodes = tree()
    arrivals: list[tuple[int, list[bytes], bool]] = []

    async def arrived(source: Source, arrival: Arrival) -> None:
        arrivals.append((arrival.piece, [bytes(b) for b in arrival.blocks if not isinstance(b, x.Mark)], arrival.ended))
        done.set()

    done = trio.Event()
    async with talking(store, DictReader({**nodes, **LEAVES})) as (stream, _, nursery):
        source = Source(stream, arrived, lambda source, count: None)
        nursery.start_soon(source.run)
        source.ask_piece(7, [20, 21], [A[0], B[0]], [4, 2])
        fed: dict[bytes, bytes] = {}
        await source.nodes([root], fed.__setitem__)
        assert fed == nodes
        assert bytes(await source.block(B[0])) == b"bb"  # type: ignore[arg-type]
        assert await source.block(leaf("no")[0]) is x.Mark.MISSING
        assert await source.ask_holding(A[0]) is x.Holding.NOTHING
        await done.wait()
        assert arrivals == [(7, [b"aaaa", b"bb"], True)]
        nursery.cancel_scope.cancel()


def test_the_reader_for_tests_knows_what_it_has() -> None:
    with pytest.raises(NotFound):
        trio.run(DictReader({}).read, CID.from_binary(A[0]))
