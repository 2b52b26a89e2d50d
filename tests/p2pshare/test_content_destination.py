"""What a fetch writes: where it should be, whole, and nowhere else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pshare.content import destination as module
from p2pshare.content.destination import Destination, check_target, target_of
from p2pshare.content.layout import lay_out, link_stays_inside, part_name
from p2pshare.errors import DiskFull, Exists, LocalError, NotFound, P2PShareError, PermissionDenied
from p2pshare_protocols.dagplan import Entry
from p2pshare_protocols.unixfs import Mtime


def file(*path: bytes, size: int = 5, mode: int | None = None, mtime: Mtime | None = None) -> Entry:
    return Entry(path, "file", size, mode, mtime)


def directory(*path: bytes) -> Entry:
    return Entry(path, "directory")


def symlink(*path: bytes, target: bytes) -> Entry:
    return Entry(path, "symlink", target=target)


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_one_file(tmp_path: Path) -> None:
    with Destination.open(str(tmp_path / "x"), [file(size=11)]) as place:
        place.write(0, 6, b"world")
        place.write(0, 0, b"hello ")
        place.sync()
        assert tree(tmp_path) == {"x.part"}
        assert place.path_of(0) == str(tmp_path / "x.part")
        assert place.read(0, 0, 5) == b"hello"
        assert place.finish() == str(tmp_path / "x")
        source = place.source_file(0)
    assert (tmp_path / "x").read_bytes() == b"hello world"
    assert (source.path, source.size) == (str(tmp_path / "x"), 11)
    assert tree(tmp_path) == {"x"}


def test_large_files_get_their_room_beside_what_is_written(tmp_path: Path) -> None:
    size = 4 << 20
    with Destination.open(str(tmp_path / "x"), [file(size=size)]) as place:
        place.write(0, 1 << 20, b"abc")
        place.reserve(lambda: True)
        assert (tmp_path / "x.part").stat().st_blocks * 512 < size
        place.reserve(lambda: False)
        status = (tmp_path / "x.part").stat()
        assert status.st_size == size
        assert status.st_blocks * 512 >= size
        assert place.read(0, 1 << 20, 4) == b"abc\0"


def test_a_file_of_unknown_size(tmp_path: Path) -> None:
    with Destination.open(str(tmp_path / "x"), [Entry((), "file", None)]) as place:
        place.write(0, 0, b"abc")
        place.finish()
    assert (tmp_path / "x").read_bytes() == b"abc"


def test_a_tree(tmp_path: Path) -> None:
    entries = [
        directory(),
        directory(b"a"),
        file(b"a", b"f", size=3, mode=0o4755, mtime=Mtime(1_000_000_000, 5)),
        file(b"a", b"empty", size=0),
        directory(b"empty"),
        symlink(b"l", target=b"a/f"),
        symlink(b"a", b"up", target=b"../empty"),
    ]
    with Destination.open(str(tmp_path / "d"), entries) as place:
        place.write(2, 0, b"abc")
        assert {path.name for path in tmp_path.iterdir()} == {"d.part"}
        place.finish()
        assert place.skipped == []
    assert tree(tmp_path / "d") == {"a", "a/f", "a/empty", "empty", "l", "a/up"}
    assert (tmp_path / "d/l").read_bytes() == b"abc"
    status = (tmp_path / "d/a/f").stat()
    assert status.st_mode & 0o7777 == 0o755, "no set-user-id bit from a stranger"
    assert status.st_mtime_ns == 1_000_000_000_000_000_005
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("mask", "mode", "kept"), [(0o022, 0o7777, 0o755), (0o002, 0o666, 0o664), (0o077, 0o105, 0o705)]
)
def test_a_mode_lets_nobody_write_whom_the_mask_forbids(tmp_path: Path, mask: int, mode: int, kept: int) -> None:
    before = os.umask(mask)
    try:
        with Destination.open(str(tmp_path / "x"), [file(size=1, mode=mode)]) as place:
            place.write(0, 0, b"a")
            place.finish()
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o7777 == kept


def test_some_files_of_a_tree(tmp_path: Path) -> None:
    with Destination.open(str(tmp_path / "d"), [file(b"a", b"b", b"c"), file(b"z")]) as place:
        place.write(0, 0, b"hello")
        place.write(1, 0, b"world")
        place.finish()
    assert tree(tmp_path / "d") == {"a", "a/b", "a/b/c", "z"}


def test_names_cannot_escape(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("safe")
    nasty = [(b"..", b"victim"), (b"../victim",), (b"/etc/x",), (b".",), (b"a\0b",), (b"n\n\x1b[2J",), (b"\xff\xfe",)]
    entries = [directory(), *(file(*path, size=1) for path in nasty)]
    (tmp_path / "in").mkdir()
    with Destination.open(str(tmp_path / "in" / "d"), entries) as place:
        for index in range(1, len(entries)):
            place.write(index, 0, b"x")
        place.finish()
    assert (tmp_path / "victim").read_text() == "safe"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "victim"}
    names = tree(tmp_path / "in" / "d")
    assert len([name for name in names if (tmp_path / "in/d" / name).is_file()]) == len(nasty)
    assert all(name.isprintable() for name in names)


def test_a_link_planted_in_the_way_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with Destination.open(str(tmp_path / "d"), [directory(), file(b"a", b"f"), file(b"g")]) as place:
        (tmp_path / "d.part" / "a").symlink_to(outside)
        (tmp_path / "d.part" / "g").symlink_to(outside / "g")
        for index in (1, 2):
            with pytest.raises(LocalError):
                place.write(index, 0, b"hello")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ((b"l",), b"f", True),
        ((b"l",), b"./a//b", True),
        ((b"a", b"l"), b"../f", True),
        ((b"a", b"l"), b"..", True),
        ((b"l",), b".", True),
        ((b"l",), b"..", False),
        ((b"l",), b"../x", False),
        ((b"a", b"l"), b"../../x", False),
        ((b"l",), b"/etc/passwd", False),
        ((b"a", b"l"), b"b/../../..", False),
        ((b"l",), b"m/../x", False),  # m may be a link that leads further down: from there ".." is another place
        ((b"l",), b"", False),
        ((), b"x", False),
    ],
)
def test_which_links_stay_inside(path: tuple[bytes, ...], target: bytes, inside: bool) -> None:
    assert link_stays_inside(path, target) is inside


def test_links_out_of_the_tree_are_told(tmp_path: Path) -> None:
    entries = [directory(), symlink(b"evil", target=b"/etc/passwd"), file(b"f", size=0)]
    with Destination.open(str(tmp_path / "d"), entries) as place:
        place.finish()
        assert [skip["path"] for skip in place.skipped] == ["evil"]
    assert tree(tmp_path / "d") == {"f"}


def test_a_lone_link_is_refused(tmp_path: Path) -> None:
    with Destination.open(str(tmp_path / "l"), [symlink(target=b"/etc/passwd")]) as place:
        with pytest.raises(LocalError) as caught:
            place.finish()
        assert caught.value.kind == "blocked"
    assert not os.path.lexists(tmp_path / "l")


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(Exists, match="there"):
        Destination.open(str(tmp_path / "x"), [file()])
    with pytest.raises(Exists):
        check_target(str(tmp_path / "x"), overwrite=False)
    check_target(str(tmp_path / "x"), overwrite=True)
    assert tree(tmp_path) == {"x"}


@pytest.mark.parametrize("entry", [file(), directory()])
def test_what_came_meanwhile_stays_too(tmp_path: Path, entry: Entry) -> None:
    with Destination.open(str(tmp_path / "x"), [entry]) as place:
        (tmp_path / "x").write_text("mine")
        with pytest.raises(Exists) as caught:
            place.finish()
        assert "--overwrite" in caught.value.hint
    assert (tmp_path / "x").read_text() == "mine"


def test_overwriting(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").write_text("old")
    with Destination.open(str(tmp_path / "x"), [file()], overwrite=True) as place:
        place.write(0, 0, b"hello")
        assert (tmp_path / "x").read_text() == "old"
        place.finish()
    with Destination.open(str(tmp_path / "d"), [directory(), file(b"f", size=0)], overwrite=True) as place:
        place.finish()
    assert (tmp_path / "x").read_text() == "hello"
    assert tree(tmp_path) == {"x", "d", "d/f"}


def test_a_file_never_replaces_a_directory(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with Destination.open(str(tmp_path / "d"), [file(size=0)], overwrite=True) as place, pytest.raises(Exists):
        place.finish()
    assert (tmp_path / "d").is_dir()


def test_a_fetch_goes_on_after_a_restart(tmp_path: Path) -> None:
    entries = [directory(), file(b"f", size=10)]
    with Destination.open(str(tmp_path / "d"), entries) as place:
        place.write(1, 0, b"hello")
        place.sync()
        part = place.part_name
        assert not place.resumed
    with Destination.open(str(tmp_path / "d"), entries, part=part) as place:
        assert place.resumed
        assert place.read(1, 0, 5) == b"hello"
        place.write(1, 5, b"world")
        place.finish()
    assert (tmp_path / "d/f").read_bytes() == b"helloworld"


def test_a_part_that_was_taken_away_is_told(tmp_path: Path) -> None:
    with Destination.open(str(tmp_path / "x"), [file()], part="x.part") as place:
        assert not place.resumed
        assert place.read(0, 0, 5) == b""


def test_what_is_called_part_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_text("mine")
    with Destination.open(str(tmp_path / "x"), [file()]) as place:
        place.write(0, 0, b"hello")
        place.finish()
    assert (tmp_path / "x.part").read_text() == "mine"
    assert (tmp_path / "x").read_bytes() == b"hello"


def test_abandoning_leaves_nothing(tmp_path: Path) -> None:
    for name, entries in (("x", [file()]), ("d", [directory(), file(b"a", b"f")])):
        place = Destination.open(str(tmp_path / name), entries)
        place.write(len(entries) - 1, 0, b"hello")
        place.abandon()
    assert tree(tmp_path) == set()


def test_names_that_a_file_system_takes_for_one() -> None:
    paths = [(b"a",), (b"A",), (b"D", b"x"), (b"d", b"x")]
    assert lay_out(paths, fold=False) == [("a",), ("A",), ("D", "x"), ("d", "x")]
    assert lay_out(paths, fold=True) == [("a",), ("A (2)",), ("D", "x"), ("d (2)", "x")]


def test_part_names_fit() -> None:
    assert part_name("x.iso") == "x.iso.part"
    assert part_name("x.iso", 2) == "x.iso.2.part"
    long = part_name("é" * 127 + "x")
    assert len(long.encode()) <= 255
    assert long.endswith(".part")
    assert part_name("é" * 127 + "x") != part_name("é" * 127 + "y")


def test_where_a_fetch_goes(tmp_path: Path) -> None:
    assert target_of(str(tmp_path), "a/b") == str(tmp_path / "a_b")
    assert target_of(str(tmp_path / "new"), "name") == str(tmp_path / "new")
    with pytest.raises(NotFound):
        check_target(str(tmp_path / "no" / "x"), overwrite=False)


def test_many_files_keep_few_descriptors_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    entries = [directory(), *(file(b"%d" % i, size=1) for i in range(300))]
    with Destination.open(str(tmp_path / "d"), entries) as place:
        for index in range(1, 301):
            place.write(index, 0, b"x")
        assert len(os.listdir("/proc/self/fd")) <= before + 70
        place.sync()
        place.finish()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(list((tmp_path / "d").iterdir())) == 300


def test_too_much_for_the_disk_is_said_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(DiskFull) as caught:
        Destination.open(str(tmp_path / "x"), [file(size=1 << 60)])
    assert caught.value.hint
    assert tree(tmp_path) == set()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own, where we may mount one."""
    where = tmp_path / "mounted"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(where)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_disk_that_fills_up(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Destination.open(str(mounted / "x"), [Entry((), "file", None)]) as place:
        with pytest.raises(DiskFull, match="no space"):
            place.write(0, 0, bytes(3 << 20))
        place.abandon()
    monkeypatch.setattr(Destination, "_check_room", lambda self: None)
    with Destination.open(str(mounted / "x"), [file(size=5 << 20)]) as place:
        with pytest.raises(DiskFull):
            place.reserve(lambda: False)
        place.abandon()


def test_a_disk_that_may_not_be_written(mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(PermissionDenied) as caught:
        Destination.open(str(mounted / "d"), [directory()])
    assert "-o" in caught.value.hint


def test_every_error_is_ours(tmp_path: Path) -> None:
    with pytest.raises(P2PShareError):
        Destination.open(str(tmp_path / "no" / "x"), [file()])
    with pytest.raises(NotFound):
        Destination.open(str(tmp_path / "x"), [])
    assert module.__doc__


def test_small_files_are_written_whole_many_in_one_call_and_known_without_another_look(tmp_path: Path) -> None:
    entries = [directory(), *(file(b"d%d" % (n % 3), b"f%d" % n, size=n) for n in range(20))]
    entries[5].mtime = Mtime(1_000_000_000, 0)
    with Destination.open(str(tmp_path / "t"), entries) as place:
        files = [(n + 1, memoryview(b"x" * n)) for n in range(20)]
        place.write_whole(files[:10])
        place.write_whole(files[5:])  # what came twice is written twice
        place.sync()
        place.finish()
        sources = [place.source_file(n + 1) for n in range(20)]
    for n, source in enumerate(sources):
        status = os.stat(source.path)
        assert Path(source.path).read_bytes() == b"x" * n
        assert (source.size, source.inode, source.mtime_ns) == (status.st_size, status.st_ino, status.st_mtime_ns)
    assert os.stat(sources[4].path).st_mtime == 1_000_000_000


def test_a_small_file_that_an_earlier_run_left_longer_is_cut(tmp_path: Path) -> None:
    entries = [directory(), file(b"f", size=3)]
    with Destination.open(str(tmp_path / "t"), entries) as place:
        place.write_whole([(1, memoryview(b"abc"))])
        part = place.part_name
    (tmp_path / part / "f").write_bytes(b"abcdefgh")
    with Destination.open(str(tmp_path / "t"), entries, part=part) as place:
        place.write_whole([(1, memoryview(b"xyz"))])
        place.finish()
        source = place.source_file(1)
    assert (tmp_path / "t" / "f").read_bytes() == b"xyz"
    assert (source.size, source.mtime_ns) == (3, os.stat(source.path).st_mtime_ns)


def test_a_link_that_took_a_small_files_name_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    entries = [directory(), file(b"f", size=3), file(b"g", size=3)]
    with Destination.open(str(tmp_path / "t"), entries) as place:
        place.write_whole([(2, memoryview(b"abc"))])
        (tmp_path / place.part_name / "f").symlink_to(tmp_path / "outside")
        with pytest.raises(LocalError):
            place.write_whole([(1, memoryview(b"abc"))])
        part = place.part_name
    with Destination.open(str(tmp_path / "t"), entries, part=part) as place, pytest.raises(LocalError):
        place.write_whole([(1, memoryview(b"abc"))])
    assert (tmp_path / "outside").read_bytes() == b"mine"
