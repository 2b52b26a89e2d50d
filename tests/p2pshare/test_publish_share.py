"""Sharing real files: the CIDs that Kubo gives, what is left out and why, and what the catalogue then knows."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pshare.content.reader import BlockReader
from p2pshare.dht.api import Receipt
from p2pshare.errors import LocalError, NotFound, PermissionDenied, Unreachable, UsageError
from p2pshare.publish import ShareOptions, discard_copy, share
from p2pshare.store import Store, open_store
from p2pshare_protocols.cid import CID
from p2pshare_protocols.dagplan import Inline
from p2pshare_protocols.dagwalk import DagWalk
from p2pshare_protocols.link import parse_link
from p2pshare_protocols.unixfs import decode_node
from tests.support_content import content, files_of, vectors, write_tree
from tests.support_publish import RememberingJob, share_paths

ALL = vectors()
DISK_VECTORS = [name for name, v in ALL.items() if not v["args"] and name != "ks-1025MiB"]
MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as store:
        yield store


async def read_back(store: Store, cid: CID) -> dict[bytes, bytes]:
    """Everything under a root, through the reader and the walker, as a peer would get it."""
    walker = DagWalk(cid)
    out = {}
    async with BlockReader(store) as reader:
        while not walker.done:
            for wanted in walker.wanted():
                walker.feed(wanted, await reader.read(wanted))
        for entry in walker.plan().entries:
            if entry.kind == "file":
                data = b""
                for segment in entry.segments:
                    data += segment.data if isinstance(segment, Inline) else await reader.read(segment.cid)
                out[b"/".join(entry.path)] = data
    return out


@pytest.mark.parametrize("name", DISK_VECTORS)
async def test_shared_files_have_kubos_cids_and_can_be_read_back(store: Store, tmp_path: Path, name: str) -> None:
    vector = ALL[name]
    recipe = vector["recipe"]
    path = tmp_path / "x"
    if "entries" in recipe:
        write_tree(recipe, path)
    elif "symlink" in recipe:
        path.symlink_to(recipe["symlink"])
    else:
        path.write_bytes(content(recipe))
    done = await share_paths(store, path)
    assert done["cid"] == vector["cid"]
    assert done["skipped"] == []
    assert done["size"] == (1 if name == "hidden-skipped" else vector.get("size", 0))
    found = await read_back(store, CID.parse(done["cid"]))
    if "entries" in recipe:
        visible = [e for e in files_of(recipe) if not e["path"].startswith(".")]
        expected = {e["path"].encode(): content(e) for e in visible if not e.get("dir") and "symlink" not in e}
        assert found == expected
        assert done["files"] == len(expected)
    elif "symlink" not in recipe:
        assert found == {b"": content(recipe)}


async def test_the_result_is_what_the_contract_says(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "2026-raft.mp4"
    path.write_bytes(b"x" * 1000)
    job = RememberingJob()
    done = await share_paths(store, path, job=job, tags=("consensus",), title="A talk")
    cid = CID.parse(done["cid"])
    assert done == {
        "cid": str(cid),
        "link": f"p2pshare:{cid}/2026-raft.mp4",
        "name": "2026-raft.mp4",
        "size": 1000,
        "files": 1,
        "kind": "file",
        "path": str(path),
        "findable": {"stored": 0, "asked": 0},
        "postings": {"stored": 0, "asked": 0},
        "words": ["2026", "raft", "mp4", "consensus", "talk", "video"],
        "skipped": [],
        "items": [{key: value for key, value in done.items() if key != "items"}],
    }
    assert parse_link(done["link"]).cid == cid
    assert (job.bytes, job.total, job.name, job.cid) == (1000, 1000, "2026-raft.mp4", str(cid))
    item = store.items.by_cid(cid)
    assert item is not None
    assert (item.type, item.mime, item.tags, item.title, item.kind) == (
        "video",
        "video/mp4",
        ("consensus",),
        "A talk",
        "file",
    )


async def test_a_directorys_names_are_in_the_catalogue(store: Store, tmp_path: Path) -> None:
    write_tree({"entries": [{"path": "a/b.mp4", "text": "12345"}, {"path": "c.txt", "text": "1"}]}, tmp_path / "d")
    done = await share_paths(store, tmp_path / "d")
    item = store.items.by_cid(CID.parse(done["cid"]))
    assert item is not None
    assert (item.kind, item.type, item.size, item.files) == ("directory", "video", 6, 2)
    rows = [(row.path_in_item, row.size, row.kind) for _, row in store.items.names(item.id)]
    assert sorted(rows) == [("a", 5, "directory"), ("a/b.mp4", 5, "file"), ("c.txt", 1, "file")]


async def test_hidden_excluded_and_special_files(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "d"
    names = ["keep.txt", ".hidden", "drop.tmp", "sub/drop.tmp", "sub/keep", "node_modules/x"]
    write_tree({"entries": [{"path": name, "text": name} for name in names]}, root)
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
    (root / os.fsdecode(b"bad\xff")).write_text("x")
    done = await share_paths(store, root, exclude=("*.tmp", "node_modules/"))
    assert set(await read_back(store, CID.parse(done["cid"]))) == {b"keep.txt", b"sub/keep"}
    reasons = {os.path.basename(skip["path"]): skip["reason"] for skip in done["skipped"]}
    assert reasons == {"pipe": "it is a named pipe", "socket": "it is a socket", "bad\ufffd": "its name is not UTF-8"}
    again = await share_paths(store, root, hidden=True)
    assert b".hidden" in await read_back(store, CID.parse(again["cid"]))


async def test_symlinks_are_kept_or_followed(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_tree({"entries": [{"path": "a/f", "text": "hello"}, {"path": "l", "symlink": "a/f"}]}, root)
    (root / "a" / "loop").symlink_to("..")
    (root / "dangling").symlink_to("nowhere")
    kept = await share_paths(store, root)
    assert set(await read_back(store, CID.parse(kept["cid"]))) == {b"a/f"}
    assert kept["skipped"] == []
    followed = await share_paths(store, root, follow_symlinks=True)
    assert await read_back(store, CID.parse(followed["cid"])) == {b"a/f": b"hello", b"l": b"hello"}
    reasons = sorted(skip["reason"] for skip in followed["skipped"])
    assert reasons == ["a symbolic link that leads back to a directory above it", "a symbolic link that leads nowhere"]


async def test_sharing_again_reads_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "d"
    write_tree({"entries": [{"path": "small", "text": "x"}, {"path": "big", "keystream": 3 * MIB + 1}]}, root)
    first = await share_paths(store, root)
    item = store.items.by_cid(CID.parse(first["cid"]))

    def no_reading(*_: object) -> None:
        raise AssertionError("a file was read again")

    monkeypatch.setattr("p2pshare.content.hashing.open_regular", no_reading)
    second = await share_paths(store, root, job=RememberingJob(2))
    assert second == first
    assert store.items.by_cid(CID.parse(first["cid"])) == item
    assert store.items.count() == 1
    alone = await share_paths(store, root / "big", job=RememberingJob(3))
    assert alone["size"] == 3 * MIB + 1
    assert store.items.count() == 2


async def test_a_changed_file_shared_again_replaces_the_old_item(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    old = await share_paths(store, path)
    path.write_bytes(b"newer")
    new = await share_paths(store, path, job=RememberingJob(2))
    assert new["cid"] != old["cid"]
    assert store.items.count() == 1
    assert await read_back(store, CID.parse(new["cid"])) == {b"": b"newer"}
    with pytest.raises(NotFound):
        await read_back(store, CID.parse(old["cid"]))


async def test_new_tags_replace_the_item_without_reading(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * (2 * MIB))
    await share_paths(store, path)
    done = await share_paths(store, path, job=RememberingJob(2), tags=("new",))
    item = store.items.by_cid(CID.parse(done["cid"]))
    assert item is not None
    assert item.tags == ("new",)
    assert store.items.count() == 1
    assert await read_back(store, item.cid) == {b"": b"x" * (2 * MIB)}


@pytest.mark.parametrize("times", [1, 2])
async def test_a_file_that_changes_while_it_is_hashed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Once: it is hashed again. Twice: it is left out and told."""
    from p2pshare.content import hashing

    root = tmp_path / "d"
    write_tree({"entries": [{"path": "calm", "text": "x"}, {"path": "busy", "keystream": 3 * MIB}]}, root)
    real = hashing._read_into
    changes: list[int] = []

    def read_and_change(descriptor: int, view: memoryview, offset: int) -> bool:
        if len(changes) < times and offset == 0:
            changes.append(offset)
            with (root / "busy").open("ab") as file:
                file.write(b"more")
        return real(descriptor, view, offset)

    monkeypatch.setattr(hashing, "_read_into", read_and_change)
    done = await share_paths(store, root)
    found = await read_back(store, CID.parse(done["cid"]))
    if times == 1:
        assert len(found[b"busy"]) == 3 * MIB + 4
        assert done["skipped"] == []
    else:
        assert set(found) == {b"calm"}
        assert done["skipped"] == [{"path": str(root / "busy"), "reason": "it changed while it was read"}]
        assert done["size"] == 1


async def test_a_single_file_that_never_holds_still(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2pshare.content import hashing

    path = tmp_path / "busy"
    path.write_bytes(b"x" * (2 * MIB))

    def change(descriptor: int, view: memoryview, offset: int) -> bool:
        with path.open("ab") as file:
            file.write(b"more")
        return True

    monkeypatch.setattr(hashing, "_read_into", change)
    with pytest.raises(LocalError, match="changed while") as caught:
        await share_paths(store, path)
    assert caught.value.kind == "changed"
    assert store.items.count() == 0
    assert store.blocks.stats().references == 0


async def test_several_paths(store: Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    done = await share_paths(store, tmp_path / "a", tmp_path / "b")
    assert [item["name"] for item in done["items"]] == ["a", "b"]
    assert done["name"] == "a"
    with pytest.raises(LocalError, match="1 of 2 paths") as caught:
        await share_paths(store, tmp_path / "missing", tmp_path / "b", job=RememberingJob(2))
    assert caught.value.kind == "partial"
    with pytest.raises(UsageError):
        await share_paths(store, tmp_path / "a", tmp_path / "b", name="x")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"paths": ()}, UsageError),
        ({"paths": ("relative",)}, UsageError),
        ({"paths": ("/definitely/not/here",)}, NotFound),
        ({"paths": ("/dev/null",)}, UsageError),
        ({"paths": ("/tmp/x",), "hash": "md5"}, UsageError),
        ({"paths": ("/tmp/x",), "name": "a/b"}, UsageError),
    ],
)
async def test_what_is_refused(store: Store, options: dict[str, Any], error: type[LocalError]) -> None:
    with pytest.raises(error):
        await share(store=store, options=ShareOptions(**options), job=RememberingJob(), announce=None)


async def test_our_own_data_is_never_shared(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PermissionDenied):
        await share_paths(store, tmp_path / "home")
    with pytest.raises(PermissionDenied):
        await share_paths(store, tmp_path / "home" / "catalogue.sqlite")
    (tmp_path / "f").write_text("x")
    done = await share_paths(store, tmp_path)
    assert set(await read_back(store, CID.parse(done["cid"]))) == {b"f"}
    assert done["skipped"] == [{"path": str(tmp_path / "home"), "reason": "p2pshare's own data is not shared"}]


@pytest.mark.parametrize("name", ["identity.key", "publisher.key"])
async def test_a_private_key_is_never_shared_by_any_name(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("secret")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    os.link(tmp_path / name, tmp_path / "d" / "harmless.txt")
    os.symlink(tmp_path / name, tmp_path / "d" / "link.txt")
    for path in (tmp_path / name, tmp_path / "d" / "harmless.txt", tmp_path):
        with pytest.raises(PermissionDenied):
            await share_paths(store, path)
    with pytest.raises(PermissionDenied):
        await share_paths(store, tmp_path / "d" / "link.txt", follow_symlinks=True)
    done = await share_paths(store, tmp_path / "d", follow_symlinks=True)
    assert set(await read_back(store, CID.parse(done["cid"]))) == {b"f"}
    assert {Path(one["path"]).name for one in done["skipped"]} == {"harmless.txt", "link.txt"}


async def test_a_kept_copy_outlives_the_original(store: Store, tmp_path: Path) -> None:
    recipe = {"entries": [{"path": "a/f", "text": "hello"}, {"path": "l", "symlink": "a/f"}]}
    write_tree(recipe, tmp_path / "d")
    (tmp_path / "f").write_bytes(b"file" * MIB)
    in_place = await share_paths(store, tmp_path / "d")
    done = await share_paths(store, tmp_path / "d", tmp_path / "f", job=RememberingJob(7), copy=True)
    assert done["cid"] == in_place["cid"]
    for path in ("d/a/f", "f"):
        (tmp_path / path).unlink()
    assert await read_back(store, CID.parse(done["cid"])) == {b"a/f": b"hello"}
    assert await read_back(store, CID.parse(done["items"][1]["cid"])) == {b"": b"file" * MIB}
    for entry in done["items"]:
        item = store.items.by_path(entry["path"])
        assert item is not None
        discard_copy(store, item)
    assert not list((tmp_path / "home" / "copies").iterdir())
    assert (tmp_path / "d" / "l").is_symlink()


async def test_announcing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    told: list[object] = []

    async def announce(cid: CID) -> Receipt:
        told.append(cid)
        return Receipt(16, 20)

    async def fail(_: object) -> Receipt:
        raise Unreachable("no node answers")

    options = ShareOptions(paths=(str(tmp_path / "f"),))
    done = await share(store=store, options=options, job=RememberingJob(), announce=announce, post=fail)
    assert done["findable"] == {"stored": 16, "asked": 20}
    assert done["postings"] == {"stored": 0, "asked": 0}
    assert told == [CID.parse(done["cid"])]
    item = store.items.by_cid(CID.parse(done["cid"]))
    assert item is not None
    assert (item.stored, item.asked) == (16, 20)
    assert item.last_announced is not None
    quiet = ShareOptions(paths=(str(tmp_path / "f"),), announce=False)
    await share(store=store, options=quiet, job=RememberingJob(2), announce=announce)
    assert len(told) == 1


async def test_blake3(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * (2 * MIB))
    done = await share_paths(store, tmp_path / "f", hash="blake3")
    cid = CID.parse(done["cid"])
    assert cid.hash_code == 0x1E
    assert await read_back(store, cid) == {b"": b"x" * (2 * MIB)}
    async with BlockReader(store) as reader:
        assert decode_node(cid, await reader.read(cid)).file_size == 2 * MIB


def test_options_from_a_jobs_params() -> None:
    options = ShareOptions(paths=("/a",), tags=("x",), hidden=True)
    assert ShareOptions.from_params(options.to_params()) == options
    assert ShareOptions.from_params({"paths": ["/a"], "name": None, "later": 1}) == ShareOptions(paths=("/a",))


async def test_what_a_name_does_not_say_is_told_by_the_content(store: Store, tmp_path: Path) -> None:
    photo = b"\x89PNG\r\n\x1a\n" + bytes(5000)
    (tmp_path / "photo").write_bytes(photo)
    done = await share_paths(store, tmp_path / "photo")
    assert "image" in done["words"]
    album = tmp_path / "album"
    album.mkdir()
    (album / "one").write_bytes(photo)
    (album / "two.mkv").write_bytes(b"\x89PNG")
    (album / "README").write_bytes(b"Two pictures.\n")
    item = store.items.by_cid(CID.parse((await share_paths(store, album))["cid"]))
    assert item is not None
    assert item.type == "image"
    rows = {row.name: row.type for _, row in store.items.names(item.id)}
    assert rows == {"one": "image", "two.mkv": "video", "README": "text"}
