"""Walking DAGs: honest ones give back what went in, hostile ones are refused within the bounds."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from p2pshare_protocols import builder, dagpb, hamt, unixfs
from p2pshare_protocols.builder import V0_2015, V1_2025
from p2pshare_protocols.cid import CID, DAG_PB, RAW
from p2pshare_protocols.dagplan import Inline, Leaf, Plan
from p2pshare_protocols.dagwalk import DagWalk
from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.pathwalk import NoSuchEntry, PathWalk
from p2pshare_protocols.unixfs import Mtime, encode_data
from tests.support_content import VECTORS, Blocks, build_file, build_recipe, content, files_of, read_car, vectors

ALL = vectors()


def walk(root: CID, blocks: Blocks, **bounds: int) -> Plan:
    known = {cid.v1: block for cid, block in blocks.items()}
    walker = DagWalk(root, **bounds)
    while not walker.done:
        for cid in walker.wanted():
            assert walker.feed(cid, known[cid])
    return walker.plan()


def bytes_of(plan: Plan, blocks: Blocks) -> dict[bytes, bytes]:
    """Every file's content, put together from the plan's segments."""
    out = {}
    for entry in plan.entries:
        if entry.kind != "file":
            continue
        data = bytearray()
        for segment in entry.segments:
            assert segment.offset == len(data)
            if isinstance(segment, Inline):
                data += segment.data
            else:
                assert segment.size in {None, len(blocks[segment.cid])}
                data += blocks[segment.cid]
        assert entry.size in {None, len(data)}
        out[b"/".join(entry.path)] = bytes(data)
    return out


def node(kind: unixfs.Kind, links: Iterable[dagpb.Link] = (), **fields: object) -> tuple[CID, bytes]:
    block = dagpb.encode(list(links), encode_data(kind, **fields))  # type: ignore[arg-type]
    return CID.of(DAG_PB, block), block


@pytest.mark.parametrize("profile", [V1_2025, V0_2015], ids=["2025", "2015"])
@pytest.mark.parametrize("name", [name for name in ALL if name != "ks-1025MiB"])
def test_vectors_come_back(name: str, profile: builder.Profile) -> None:
    recipe = ALL[name]["recipe"]
    blocks: Blocks = {}
    root = build_recipe(recipe, profile, blocks, hidden=True)
    plan = walk(root.cid, blocks)
    if "symlink" in recipe:
        assert plan.entries[0].kind == "symlink"
        assert plan.entries[0].target == recipe["symlink"].encode()
    elif "entries" not in recipe:
        assert bytes_of(plan, blocks) == {b"": content(recipe)}
    else:
        entries = files_of(recipe)
        expected = {e["path"].encode(): content(e) for e in entries if not e.get("dir") and "symlink" not in e}
        assert bytes_of(plan, blocks) == expected
        links = {e["path"].encode(): e["symlink"].encode() for e in entries if "symlink" in e}
        assert {e.path[0]: e.target for e in plan.entries if e.kind == "symlink"} == links
        assert plan.files == len(expected)
        assert plan.size == sum(map(len, expected.values()))


@pytest.mark.parametrize("name", ["unicode-names", "symlinks", "empty-dir"])
def test_kubos_exports_can_be_walked(name: str) -> None:
    root, exported = read_car(VECTORS / f"{name}.car")
    plan = walk(root, dict(exported))
    assert plan.files == sum(1 for e in files_of(ALL[name]["recipe"]) if "symlink" not in e)


def test_a_raw_root_has_one_leaf_of_unknown_size() -> None:
    cid = CID.of(RAW, b"x")
    walker = DagWalk(cid)
    assert walker.done
    plan = walker.plan()
    assert plan.entries[0].segments == [Leaf(cid, 0, None)]
    assert plan.size is None
    assert plan.files == 1


def test_mode_and_mtime_are_read() -> None:
    blocks: Blocks = {}
    when = Mtime(-7, 123_456_789)
    root = build_file(b"x" * 3_000_000, V1_2025, blocks, mode=0o755, mtime=when)
    entry = walk(root.cid, blocks).entries[0]
    assert (entry.mode, entry.mtime) == (0o755, when)
    single = build_file(b"x", V1_2025, blocks, mtime=when)
    entry = walk(single.cid, blocks).entries[0]
    assert (entry.mode, entry.mtime, entry.size) == (None, when, 1)


def test_wanted_is_in_dfs_order_and_each_block_once() -> None:
    blocks: Blocks = {}
    inner, made = builder.build_directory([])
    blocks.update(made)
    left, made = builder.build_directory([dagpb.Link(inner.cid, b"x", 4)])
    blocks.update(made)
    right, made = builder.build_directory([dagpb.Link(inner.cid, b"y", 4), dagpb.Link(left.cid, b"z", 4)])
    blocks.update(made)
    root, made = builder.build_directory([dagpb.Link(left.cid, b"1", 4), dagpb.Link(right.cid, b"2", 4)])
    blocks.update(made)
    walker = DagWalk(root.cid)
    assert walker.wanted() == [root.cid]
    walker.feed(root.cid, blocks[root.cid])
    assert walker.wanted() == [left.cid, right.cid]
    assert walker.wanted(1) == [left.cid]
    walker.feed(right.cid, blocks[right.cid])
    assert walker.wanted() == [left.cid, inner.cid]
    walker.feed(left.cid, blocks[left.cid])
    assert walker.wanted() == [inner.cid]
    assert not walker.feed(left.cid, blocks[left.cid])
    assert not walker.done
    with pytest.raises(LocalProtocolError):
        walker.plan()
    assert walker.feed(inner.cid, blocks[inner.cid])
    assert [b"/".join(e.path) for e in walker.plan().entries] == [b"", b"1", b"1/x", b"2", b"2/y", b"2/z", b"2/z/x"]


def test_identity_cids_need_no_fetching() -> None:
    leaf = CID.of(RAW, b"inline", "identity")
    empty = CID.of(DAG_PB, bytes.fromhex("0a020801"), "identity")
    root, block = node("directory", [dagpb.Link(leaf, b"f", 6), dagpb.Link(empty, b"d", 4)])
    walker = DagWalk(root)
    walker.feed(root, block)
    assert walker.done
    plan = walker.plan()
    assert [(e.kind, e.size) for e in plan.entries] == [("directory", 0), ("directory", 0), ("file", 6)]
    assert plan.entries[2].segments == [Inline(0, b"inline")]


def file_bomb(levels: int, width: int) -> tuple[CID, Blocks]:
    leaf = CID.of(RAW, b"")
    blocks: Blocks = {leaf: b""}
    cid = leaf
    for _ in range(levels):
        cid, block = node("file", [dagpb.Link(cid, b"", 0)] * width, file_size=0, block_sizes=[0] * width)
        blocks[cid] = block
    return cid, blocks


def directory_bomb(levels: int, width: int) -> tuple[CID, Blocks]:
    cid, block = node("directory")
    blocks: Blocks = {cid: block}
    for _ in range(levels):
        cid, block = node("directory", [dagpb.Link(cid, b"%d" % i, 0) for i in range(width)])
        blocks[cid] = block
    return cid, blocks


@pytest.mark.parametrize("bomb", [file_bomb(10, 100), directory_bomb(20, 10), file_bomb(40, 1), directory_bomb(70, 1)])
def test_bombs_are_refused(bomb: tuple[CID, Blocks]) -> None:
    with pytest.raises(RemoteProtocolError):
        walk(*bomb, max_nodes=20_000, max_entries=10_000)


def test_bounds_on_entries_and_nodes() -> None:
    root, blocks = directory_bomb(1, 100)
    assert len(walk(root, blocks, max_entries=101, max_nodes=300).entries) == 101
    with pytest.raises(RemoteProtocolError):
        walk(root, blocks, max_entries=100)
    with pytest.raises(RemoteProtocolError):
        walk(root, blocks, max_nodes=100)


def test_each_entry_of_a_sharded_directory_counts_once() -> None:
    links = [dagpb.Link(CID.of(RAW, b"%d" % number), b"%d" % number, 1) for number in range(1000)]
    root, made = hamt.build(links)
    assert len(made) > 1
    blocks = dict(made)
    assert len(walk(root.cid, blocks, max_nodes=1000 + 2 * len(made)).entries) == 1001
    with pytest.raises(RemoteProtocolError):
        walk(root.cid, blocks, max_nodes=1000)


def test_a_part_that_is_not_what_was_said() -> None:
    inner, inner_block = node("file", data=b"abc", file_size=3)
    liar, block = node("file", [dagpb.Link(inner, b"", 9)], file_size=4, block_sizes=[4])
    with pytest.raises(RemoteProtocolError):
        walk(liar, {inner: inner_block, liar: block})
    directory, directory_block = node("directory")
    liar, block = node("file", [dagpb.Link(directory, b"", 9)], file_size=0, block_sizes=[0])
    with pytest.raises(RemoteProtocolError):
        walk(liar, {directory: directory_block, liar: block})


def test_a_second_place_is_checked_too() -> None:
    """The same inner block, once where it fits and once where another size is claimed."""
    inner, inner_block = node("file", data=b"abc", file_size=3)
    liar, liar_block = node("file", [dagpb.Link(inner, b"", 9)], file_size=4, block_sizes=[4])
    root, block = node("directory", [dagpb.Link(inner, b"1", 9), dagpb.Link(liar, b"2", 9)])
    with pytest.raises(RemoteProtocolError):
        walk(root, {inner: inner_block, liar: liar_block, root: block})


@pytest.mark.parametrize(
    "links",
    [
        [dagpb.Link(CID.of(RAW, b""), b"same", 0), dagpb.Link(CID.of(RAW, b"x"), b"same", 0)],
        [dagpb.Link(CID.of(RAW, b""), b"", 0)],
        [dagpb.Link(CID.of(RAW, b""), None, 0)],
        [dagpb.Link(CID.of(RAW, b""), b"x" * 1025, 0)],
        [dagpb.Link(CID.of(0x71, b""), b"cbor", 0)],
        [dagpb.Link(CID.of(RAW, b""), b"big", 3 << 20)],
    ],
)
def test_directories_that_are_refused(links: list[dagpb.Link]) -> None:
    root, block = node("directory", links)
    with pytest.raises(RemoteProtocolError):
        walk(root, {root: block})


def test_an_entry_in_the_wrong_slot_is_refused() -> None:
    link = dagpb.Link(CID.of(RAW, b""), b"00name", 0)
    root, block = node("shard", [link], data=b"\x01", fanout=256)
    with pytest.raises(RemoteProtocolError, match="where its name belongs"):
        walk(root, {root: block})


def test_a_root_of_another_codec_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        DagWalk(CID.of(0x71, b""))


def test_mutated_blocks_raise_only_our_error() -> None:
    rng = random.Random(4)
    blocks: Blocks = {}
    roots = [
        build_recipe(ALL[name]["recipe"], V0_2015, blocks, hidden=True).cid
        for name in ("symlinks", "nested", "hamt-5000", "mode-mtime-file")
    ]
    inner = sorted(((c.v1, b) for c, b in blocks.items() if len(b) < 20_000), key=lambda pair: pair[0].binary)
    assert roots
    refused = 0
    for _ in range(3000):
        cid, block = rng.choice(inner)
        bad = bytearray(block)
        for _ in range(rng.randint(1, 3)):
            if bad and rng.random() < 0.2:
                del bad[rng.randrange(len(bad))]
            elif bad:
                bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            DagWalk(cid).feed(cid, bytes(bad))
        except RemoteProtocolError:
            refused += 1
    assert refused > 500


def find(root: CID, blocks: Blocks, *path: bytes) -> tuple[CID, int]:
    finder = PathWalk(root, path)
    asked = 0
    while (cid := finder.wanted) is not None:
        asked += 1
        finder.feed(cid, blocks[cid])
    return finder.target, asked


def test_a_path_is_found() -> None:
    blocks: Blocks = {}
    root = build_recipe(ALL["nested"]["recipe"], V1_2025, blocks, hidden=True).cid
    assert find(root, blocks) == (root, 0)
    assert find(root, blocks, b"a", b"b", b"c", b"d.txt") == (CID.of(RAW, b"deep\n"), 4)
    for missing in [(b"nothing",), (b"z.txt", b"below"), (b"a", b"big.bin", b"x"), (b"a", b"emptydir", b"x")]:
        with pytest.raises(NoSuchEntry):
            find(root, blocks, *missing)


def test_a_path_in_a_sharded_directory_needs_few_blocks() -> None:
    blocks: Blocks = {}
    root = build_recipe(ALL["hamt-5000"]["recipe"], V1_2025, blocks, hidden=True).cid
    for i in range(0, 5000, 97):
        cid, asked = find(root, blocks, b"f%05d.txt" % i)
        assert cid == CID.of(RAW, b"%d\n" % i)
        assert asked <= 4
    with pytest.raises(NoSuchEntry):
        find(root, blocks, b"f99999.txt")
