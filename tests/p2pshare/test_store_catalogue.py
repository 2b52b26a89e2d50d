from __future__ import annotations

import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from p2pshare.errors import DiskFull, LocalError, Locked, NotFound, PermissionDenied, UsageError
from p2pshare.store import Store, open_store
from p2pshare.store.ballast import Ballast
from p2pshare.store.catalogue import CATALOGUE
from p2pshare.store.database import Database
from p2pshare.store.schema import VERSION, migrate
from tests.support_store import draft, raw_cid, source


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_catalogue_is_private(tmp_path: Path) -> None:
    home = tmp_path / "a" / "data"
    old = os.umask(0)
    try:
        with open_store(home) as store:
            store.set_meta("x", "y")
            assert mode(home) == 0o700
            files = sorted(path.name for path in home.iterdir())
            assert files == ["ballast", CATALOGUE, f"{CATALOGUE}-shm", f"{CATALOGUE}-wal"]
            assert {mode(path) for path in home.iterdir()} == {0o600}
    finally:
        os.umask(old)


def test_a_directory_that_is_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / CATALOGUE).touch(mode=0o644)
    with open_store(tmp_path):
        assert (mode(tmp_path), mode(tmp_path / CATALOGUE)) == (0o700, 0o600)


def test_every_commit_is_synced(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store._db.first("PRAGMA journal_mode") == ("wal",)
        assert store._db.first("PRAGMA synchronous") == (2,)
        with store.relaxed():
            assert store._db.first("PRAGMA synchronous") == (1,)
        with store.transaction(), store.relaxed():
            assert store._db.first("PRAGMA synchronous") == (2,)
        assert store._db.first("PRAGMA synchronous") == (2,)


def test_a_transaction_is_all_or_nothing_at_every_depth(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.set_meta("a", "1")
            with store.transaction():
                store.set_meta("b", "1")
            raise ZeroDivisionError
        assert (store.get_meta("a"), store.get_meta("b")) == (None, None)
        with store.transaction():
            store.set_meta("a", "2")
            with pytest.raises(ZeroDivisionError), store.transaction():
                store.set_meta("b", "2")
                with store.transaction():
                    store.set_meta("c", "2")
                raise ZeroDivisionError
            store.set_meta("d", "2")
        assert [store.get_meta(key) for key in "abcd"] == ["2", None, None, "2"]


def test_inner_work_is_seen_by_others_only_with_the_outer_commit(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        reader = store.reader()
        with store.transaction():
            store.blocks.put_many(None, [(raw_cid("a").binary, b"a")])
            assert reader.blocks.get(raw_cid("a").binary) is None
        assert reader.blocks.get(raw_cid("a").binary) == b"a"
        reader.close()


def test_a_second_writer_is_told_who_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pshare.store.database.BUSY_SECONDS", 0.01)
    with open_store(tmp_path) as one, open_store(tmp_path) as two, one.transaction(), pytest.raises(Locked):
        two.set_meta("a", "b")


def build_version_1(directory: Path) -> None:
    database = Database(directory / CATALOGUE)
    migrate(database, to=1)
    database.execute(
        "INSERT INTO jobs (kind, params, state, reason, bytes, name, created, updated)"
        " VALUES ('fetch', '{\"a\":1}', 'running', '', 7, 'x', 1.0, 2.0)"
    )
    database.execute("INSERT INTO peers VALUES ('12D3', '[]', 5.0)")
    database.close()


def test_a_catalogue_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    build_version_1(tmp_path)
    with open_store(tmp_path) as store:
        assert store._db.number("PRAGMA user_version") == VERSION
        job = store.jobs.get(1)
        assert (job.kind, job.params, job.bytes, job.priority) == ("fetch", {"a": 1}, 7, 0)
        assert store.peers.known() == [("12D3", [], 5.0)]
        store.providers.put(b"k", "12D3", [], 9.0)
        migrated = schema_of(store)
    with open_store(tmp_path / "new") as store:
        assert schema_of(store) == migrated


def schema_of(store: Store) -> list[tuple[object, ...]]:
    return store._db.all("SELECT type, name FROM sqlite_schema ORDER BY name")


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_version_1(tmp_path)
    from p2pshare.store import schema

    broken = (schema.MIGRATIONS[0], ("CREATE TABLE fine (x)", "CREATE TABLE broken ("))
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    with pytest.raises(LocalError), open_store(tmp_path):
        pass
    with sqlite3.connect(tmp_path / CATALOGUE) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (1,)
        assert raw.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'fine'").fetchone() == (0,)
    raw.close()


def test_a_newer_catalogue_is_refused_and_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store._db.execute(f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(LocalError) as caught, open_store(tmp_path):
        pass
    assert caught.value.kind == "version-mismatch"
    assert caught.value.hint
    with sqlite3.connect(tmp_path / CATALOGUE) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
    raw.close()


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / CATALOGUE) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    with pytest.raises(LocalError, match="not p2pshare's"), open_store(tmp_path):
        pass


@pytest.mark.parametrize("damage", ["head", "middle"])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    with open_store(tmp_path) as store:
        for number in range(200):
            store.set_meta(f"key {number}", "x" * 200)
    path = tmp_path / CATALOGUE
    data = bytearray(path.read_bytes())
    if damage == "head":
        data[:4096] = os.urandom(4096)
    else:
        data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(LocalError, match="damaged") as caught, open_store(tmp_path) as store:
        store.get_meta("key 1")
    assert "untouched" in caught.value.hint
    assert not isinstance(caught.value, DiskFull)


def test_check_finds_damage(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.check() == []
        store.items.add(draft())
        store._db.execute("PRAGMA writable_schema=ON")
        root = store._db.number("SELECT rootpage FROM sqlite_schema WHERE name = 'items_by_cid'")
    path = tmp_path / CATALOGUE
    data = bytearray(path.read_bytes())
    data[(root - 1) * 4096 + 3 : (root - 1) * 4096 + 5] = b"\xff\xff"
    path.write_bytes(data)
    with open_store(tmp_path) as store:
        try:
            found = store.check()
        except LocalError as error:
            found = [error.message]
        assert found


def test_a_home_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LocalError), open_store(tmp_path / "file" / "home"):
        pass
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / CATALOGUE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionDenied), open_store(tmp_path / "link"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_ballast_is_really_there(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.ballast.present
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 4 << 20


def test_the_ballast_is_made_again_only_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ballast = Ballast(tmp_path / "ballast")
    assert not ballast.release()
    assert ballast.refill()
    assert ballast.release()
    assert not ballast.present
    real = os.statvfs(tmp_path)
    full = os.statvfs_result((real.f_bsize, real.f_frsize, real.f_blocks, 5, 5, *tuple(real)[5:]))
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: full)
        assert not ballast.refill()
        assert not ballast.present
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", _no_room)
        assert not ballast.refill()
        assert list(tmp_path.iterdir()) == []


def _no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_frees_the_ballast_and_undoes_the_transaction(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        item = store.items.add(draft())
        store.blocks.put_many(item.id, [(raw_cid("big").binary, bytes(100_000))])
        pages = store._db.number("PRAGMA page_count")
        store._db.execute(f"PRAGMA max_page_count={pages + 3}")  # SQLite's own SQLITE_FULL
        with pytest.raises(DiskFull) as caught, store.transaction():
            store.set_meta("before", "x")
            for number in range(10):
                store.blocks.put_many(item.id, [(raw_cid(str(number)).binary, bytes(10_000))])
        assert "unshare" in caught.value.hint
        assert not store.ballast.present
        assert store.get_meta("before") is None
        store.items.remove(item.id)
        store.blocks.put_many(None, [(raw_cid("again").binary, bytes(50_000))])
        store.maintain()
        assert store.ballast.present


def test_unused_room_is_given_back(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        item = store.items.add(draft())
        store.blocks.put_many(item.id, [(raw_cid(str(n)).binary, bytes(100_000)) for n in range(20)])
        store.items.remove(item.id)
        before = store.size()
        assert store.shrink() > 1_500_000
        assert store.size() < before - 1_500_000


WRITER = """
import sys
from pathlib import Path
from p2pshare.store import open_store, SourceFile
from tests.support_store import draft, raw_cid, source
with open_store(Path(sys.argv[1])) as store:
    item = store.items.add(draft())
    for number in range(1_000_000):
        with store.transaction():
            store.references.add_many(item.id, source(f"/d/{number}"), [(raw_cid(str(number)).binary, 0, 1000)])
            store.events.append("shares", {"n": number})
            store.jobs.create("share", {"n": number})
        store.events.transient("jobs", {})
        print(number, store.events.last_seq, flush=True)
"""


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "protocols")])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, cwd=root) as writer:
        assert writer.stdout is not None
        acknowledged, last_seq = -1, 0
        for line in writer.stdout:
            acknowledged, last_seq = map(int, line.split())
            if acknowledged == 150:
                writer.send_signal(signal.SIGKILL)  # it goes on writing until it is hit; we read on to the last line
    assert acknowledged >= 150
    with open_store(tmp_path) as store:
        assert store.check() == []
        events = [event.body["n"] for event in store.events.since(0, limit=10**6)]
        assert events[: acknowledged + 1] == list(range(acknowledged + 1))
        for number in events:  # an event and what it tells of are one transaction
            assert store.references.locate(raw_cid(str(number)).binary)[0].path == f"/d/{number}"
            assert store.jobs.get(number + 1).params == {"n": number}
        assert len(store.jobs.list()) == len(events)
        assert store.events.last_seq >= last_seq


def test_meta_and_unknown_jobs(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.get_meta("k") is None
        store.set_meta("k", "한")
        store.set_meta("k", "v")
        assert store.get_meta("k") == "v"
        with pytest.raises(NotFound):
            store.jobs.get(1)
        with pytest.raises(NotFound):
            store.jobs.update(1, state="done")
        with pytest.raises(UsageError):
            store.jobs.create("share", {"x": object()})
        with pytest.raises(UsageError):
            store.jobs.create("share", {"x": "y" * (5 << 20)})
        assert store.references.known(source().path) is None
