from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pshare.errors import Exists, NotFound, UsageError
from p2pshare.store import FoundRow, NameRow, Store, open_store, schema, type_of
from p2pshare_protocols import query as queries
from p2pshare_protocols import terms
from p2pshare_protocols.cid import CID, DAG_PB
from p2pshare_protocols.query_model import TYPES, Query
from tests.support_store import draft, raw_cid, source


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path, wall_clock=lambda: 1000.0) as opened:
        yield opened


def hits(store: Store, query: Query, limit: int) -> list[FoundRow]:
    with closing(store.reader()) as reader:
        return reader.search(query, limit).rows


def found(store: Store, text: str, limit: int = 100, **filters: object) -> list[str]:
    query = queries.parse(text, now=1_000_000.0, **filters)  # type: ignore[arg-type]
    return [row.path_in_item or row.name for row in hits(store, query, limit)]


def fill(store: Store, item_id: int, *paths: str, size: int = 10) -> None:
    rows = [NameRow(path, path.rpartition("/")[2], raw_cid(path), size, "file") for path in paths]
    store.items.add_names(item_id, rows)


def test_an_item_comes_back_as_it_was_put(store: Store) -> None:
    put = draft("raft.mp4", tags=("talk", "파일"), title="Raft", description="d", mime="video/mp4", announce=False)
    item = store.items.add(put)
    for name in ("cid", "name", "path", "size", "files", "kind", "mime", "tags", "title", "description", "hash"):
        assert getattr(item, name) == getattr(put, name)
    assert (item.type, item.state, item.announce, item.index, item.created) == ("video", "ok", False, True, 1000.0)
    assert store.items.get(item.id) == store.items.by_cid(put.cid) == store.items.by_path("/home/me/raft.mp4") == item
    assert store.items.list() == [item]
    assert (store.items.count(), store.items.total_size()) == (1, 1000)


def test_what_is_not_there_is_none_or_not_found(store: Store) -> None:
    assert store.items.by_cid(raw_cid("x")) is None
    assert store.items.by_path("/x") is None
    for action in (store.items.get, store.items.remove):
        with pytest.raises(NotFound):
            action(7)
    with pytest.raises(NotFound):
        store.items.set_state(7, "ok")


def test_an_item_is_found_by_either_version_of_its_cid(store: Store) -> None:
    zero = CID(0, DAG_PB, CID.of(DAG_PB, b"x").multihash)
    item = store.items.add(draft(cid=zero))
    assert item.cid == zero.v1
    assert store.items.by_cid(zero) == store.items.by_cid(zero.v1) == item


def test_one_content_may_be_shared_from_two_paths_but_not_twice_from_one(store: Store) -> None:
    first = store.items.add(draft())
    second = store.items.add(draft(path="/other"))
    with pytest.raises(Exists):
        store.items.add(draft())
    assert store.items.by_cid(first.cid) == second
    store.items.set_state(second.id, "missing")
    assert store.items.by_cid(first.cid) == first
    assert [item.id for item in store.items.all_by_cid(first.cid)] == [first.id, second.id]


def test_state_announcement_and_bytes_sent_are_kept(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        item = store.items.add(draft())
        store.items.set_state(item.id, "changed")
        store.items.set_announced(item.id, 55.0, 16, 20)
        store.items.add_sent(item.id, 100)
        store.items.add_sent(item.cid, 11)
        store.items.add_sent(raw_cid("unknown"), 11)
        assert store.items.get(item.id).bytes_sent == 111
    with open_store(tmp_path) as store:
        kept = store.items.get(item.id)
        assert (kept.state, kept.last_announced, kept.stored, kept.asked) == ("changed", 55.0, 16, 20)
        assert kept.bytes_sent == 111


def test_names_of_any_kind_come_back_and_are_searched(store: Store) -> None:
    strange = "caf\udce9 \udcff.mp3"  # bytes that are not UTF-8
    long = "x" * 255
    item = store.items.add(draft(strange, path=f"/home/{strange}"))
    assert (item.name, item.path) == (strange, f"/home/{strange}")
    fill(store, item.id, f"a/{strange}", f"b/{long}", "c/-- ; DROP TABLE items; '\"*.txt")
    names = [row.path_in_item for _, row in store.items.names(item.id)]
    assert names == [f"a/{strange}", f"b/{long}", "c/-- ; DROP TABLE items; '\"*.txt"]
    assert found(store, "drop table") == [names[2]]
    assert set(found(store, "caf ext:mp3")) == {strange, names[0]}
    for hostile in ('"', 'items"*', "name:x", "a OR", "NEAR(", "*", "-", ""):
        assert hits(store, Query(words=(hostile,)), 5) == []


@pytest.mark.parametrize("name", ["a\0b", "x" * 20_000, "\ud800"])
def test_a_path_that_no_file_system_has_is_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError):
        store.items.add(draft(path=f"/{name}", name="fine"))


def test_texts_of_strangers_are_bounded_and_made_unicode(store: Store) -> None:
    item = store.items.add(draft(tags=("t\ud800", "x" * 1000), title="y" * 5000, description="a\0b"))
    assert item.tags == ("t\ufffd", "x" * 128)
    assert (len(item.title), item.description) == (1024, "a\ufffdb")
    with pytest.raises(UsageError):
        store.items.add(draft("other", tags=tuple(map(str, range(65)))))


def test_files_inside_are_paged_in_the_order_in_which_they_came(store: Store) -> None:
    item = store.items.add(draft("d", kind="directory"))
    fill(store, item.id, *(f"f{number}" for number in range(7)))
    fill(store, item.id, "a")
    seen, after = [], 0
    while page := store.items.names(item.id, 3, after):
        assert len(page) <= 3
        seen += [row.name for _, row in page]
        after = page[-1][0]
    assert seen == [*(f"f{number}" for number in range(7)), "a"]


def test_every_term_is_one_token_of_the_index(store: Store) -> None:
    """Each term of each script finds its name, also those with ASCII that FTS5 would split at."""
    names = [
        "한국어 파일공유",
        "日本語のファイル",
        "東",
        "naïve Ünïcode",
        "don't l'été",
        "JavaScript2026",
        "ﬁne x²",
        "İstanbul",
    ]
    names += ["नमस्ते दुनिया", "C++ c#", "a_b.c-d", "файлы", "😀 smile", "fo\u0301o"]
    for number, name in enumerate(names):
        store.items.add(draft(name, path=f"/{number}"))
    for name in names:
        for term in terms.cut(name):
            rows = hits(store, Query(words=(term,)), 100)
            assert name in [row.name for row in rows], term
            for row in rows:
                assert term in terms.sequence(row.name) or term == row.type


def test_a_term_of_punctuation_is_kept_whole_should_the_cutting_rule_change(store: Store) -> None:
    printable = "".join(chr(code) for code in range(0x21, 0x7F))
    store._db.execute("INSERT INTO words (rowid, name) VALUES (99, ?)", (f"c++ {printable} x",))
    store._db.execute("CREATE VIRTUAL TABLE seen USING fts5vocab (words, 'row')")
    assert {row[0] for row in store._db.all("SELECT term FROM seen")} == {"c++", printable.lower(), "x"}


def test_words_phrases_alternatives_and_exclusions(store: Store) -> None:
    for name in ("raft consensus talk.mp4", "consensus raft.pdf", "paxos.pdf", "raft draft.txt"):
        store.items.add(draft(name))
    assert sorted(found(store, "raft consensus")) == ["consensus raft.pdf", "raft consensus talk.mp4"]
    assert found(store, '"raft consensus"') == ["raft consensus talk.mp4"]
    assert sorted(found(store, "raft OR paxos -draft -talk")) == ["consensus raft.pdf", "paxos.pdf"]
    assert found(store, 'raft -"raft consensus" -draft') == ["consensus raft.pdf"]
    assert found(store, "type:video") == ["raft consensus talk.mp4"]
    assert sorted(found(store, "type:document -raft")) == ["paxos.pdf"]
    assert found(store, "nothing") == []


def test_a_phrase_does_not_run_over_from_one_field_into_another(store: Store) -> None:
    store.items.add(draft("raft", title="consensus", tags=("one", "two")))
    assert found(store, "raft consensus one two") == ["raft"]
    assert found(store, '"raft consensus"') == []


def test_a_word_inside_a_compound_and_camel_case_are_found(store: Store) -> None:
    store.items.add(draft("무료파일공유프로그램.zip"))
    store.items.add(draft("JavaScript.pdf"))
    assert found(store, "파일공유") == ["무료파일공유프로그램.zip"]
    assert found(store, "script") == ["JavaScript.pdf"]


def test_filters(store: Store) -> None:
    for name, size, created in (("a.pdf", 10, 100.0), ("b.PDF", 20, 200.0), ("c.tar.gz", 30, 300.0)):
        tags = ("Linux", "iso") if size == 30 else ("linux",)
        store.items.add(draft(f"report {name}", size=size, created=created, tags=tags))
    assert sorted(found(store, "report ext:pdf")) == ["report a.pdf", "report b.PDF"]
    assert found(store, "report ext:tar.gz") == ["report c.tar.gz"]
    assert found(store, "report", min_size=20, max_size=29) == ["report b.PDF"]
    newest = hits(store, Query(newer=200.0), 10)
    assert [row.name for row in newest] == ["report c.tar.gz", "report b.PDF"]
    assert [row.name for row in hits(store, Query(newer=200.0, older=300.0), 10)] == ["report b.PDF"]
    assert found(store, "tag:linux tag:iso") == ["report c.tar.gz"]
    assert found(store, "report", type="archive") == ["report c.tar.gz"]


def test_what_the_index_finds_is_what_the_query_means(store: Store) -> None:
    """The same records, asked through FTS5 and through `Query.matches`."""
    names = [
        "raft talk.mp4",
        "Raft-Consensus.pdf",
        "talk raft",
        "paxos raft talk",
        "東京タワー.jpg",
        "raftConsensus v2.txt",
    ]
    for name in names:
        store.items.add(draft(name, tags=("talk",) if "mp4" in name else ()))
    items = store.items.list()
    for text in (
        "raft",
        "raft talk",
        '"raft talk"',
        "raft -talk",
        "京タ",
        "consensus OR paxos",
        "raft-consensus",
        "v2",
    ):
        query = queries.parse(text, now=0.0)
        records = [
            queries.Record(i.name, tags=i.tags, title=i.title, type=i.type, size=i.size, created=i.created)
            for i in items
        ]
        expected = sorted(record.name for record in records if query.matches(record))
        assert sorted(found(store, text)) == expected, text


def test_a_hit_in_the_name_comes_before_one_in_tags_and_title(store: Store) -> None:
    for number in range(20):
        store.items.add(draft(f"other {number}"))
    store.items.add(draft("in title", title="raft"))
    store.items.add(draft("in tags", tags=("raft",)))
    store.items.add(draft("raft name"))
    assert found(store, "raft") == ["raft name", "in tags", "in title"]
    rows = hits(store, Query(words=("raft",)), 2)
    assert [row.name for row in rows] == ["raft name", "in tags"]


def test_files_inside_are_found_with_the_root_they_belong_to(store: Store) -> None:
    item = store.items.add(draft("Talks 2026", kind="directory"))
    fill(store, item.id, "raft/slides.pdf", "raft/video.mp4", "paxos/slides.pdf")
    (row,) = hits(store, queries.parse("raft slides", now=0.0), 10)
    assert (row.item_id, row.root_cid, row.cid) == (item.id, item.cid, raw_cid("raft/slides.pdf"))
    assert (row.path_in_item, row.name, row.size, row.type) == ("raft/slides.pdf", "slides.pdf", 10, "document")
    assert sorted(found(store, "talks slides")) == ["paxos/slides.pdf", "raft/slides.pdf"]


def test_a_removed_item_is_not_found_and_takes_with_it_only_what_is_its_own(store: Store) -> None:
    gone, stays = store.items.add(draft("gone raft")), store.items.add(draft("stays raft"))
    fill(store, gone.id, "raft one.txt")
    fill(store, stays.id, "raft two.txt")
    shared, own = source("/d/shared"), source("/d/own")
    for item in (gone, stays):
        store.references.add_many(item.id, shared, [(raw_cid("shared").binary, 0, 1000)])
        store.blocks.put_many(item.id, [(raw_cid("both").binary, b"both")])
    store.references.add_many(gone.id, own, [(raw_cid("own").binary, 0, 1000)])
    store.blocks.put_many(gone.id, [(raw_cid("mine").binary, b"mine")])

    store.items.remove(gone.id)
    assert sorted(found(store, "raft")) == ["raft two.txt", "stays raft"]
    assert store.items.list() == [stays]
    assert [place.item_id for place in store.references.locate(raw_cid("shared").binary)] == [stays.id]
    assert store.references.locate(raw_cid("own").binary) == []
    assert store.references.known("/d/own") is None
    assert store.blocks.has(raw_cid("both").binary)
    assert not store.blocks.has(raw_cid("mine").binary)
    store.items.remove(stays.id)
    for table in ("items", "names", "words", "files", "directories", "item_files", "chunks", "blocks", "item_blocks"):
        assert store._db.number(f"SELECT count(*) FROM {table}") == 0, table
    assert store.items.add(draft("gone raft")).id > stays.id


def test_a_removal_that_was_cut_off_is_ended_later(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        item = store.items.add(draft("raft"))
        fill(store, item.id, *(f"raft {number}" for number in range(5000)))
        steps = store.items.remove_steps(item.id)
        next(steps)
        next(steps)
        assert store.items.list() == []
        assert found(store, "raft") == []
        assert store._db.number("SELECT count(*) FROM names") > 1000
    with open_store(tmp_path) as store:
        store.maintain()
        assert store._db.number("SELECT count(*) FROM names") == 0
        assert store._db.number("SELECT count(*) FROM items") == 0


def test_types_are_told_from_names() -> None:
    expected = {"a.MKV": "video", "b.flac": "audio", "c.jpeg": "image", "d.pdf": "document", "e.tar.gz": "archive"}
    expected |= {"f.iso": "software", "g.py": "text", "Makefile": "other", ".gitignore": "other", "": "other"}
    assert {name: type_of(name) for name in expected} == expected
    assert set(expected.values()) == set(TYPES)
    assert type_of("noending", "video/mp4") == "video"


def test_a_search_ends_when_it_is_stopped_or_out_of_time_and_says_that_it_is_not_whole(store: Store) -> None:
    with store.transaction():
        for number in range(3000):
            store.items.add(draft(f"raft {number}", path=f"/{number}"))
    stop = threading.Event()
    with closing(store.reader()) as reader:
        query = Query(words=("raft",), min_size=10**9)
        assert reader.search(query) == ([], True)
        assert reader.search(query, seconds=0.0) == ([], False)
        stop.set()
        assert reader.search(query, stop=stop) == ([], False)
        assert reader.search(query) == ([], True)


def test_the_ending_of_names_in_an_older_catalogue_becomes_a_term(tmp_path: Path) -> None:
    with open_store(tmp_path) as older:
        item = older.items.add(draft("Talks v1.2", kind="directory"))
        fill(older, item.id, "a.d/Slides.PDF", "a.d/README")
        older._db.execute("UPDATE words SET type = (SELECT type FROM names n WHERE n.id = words.rowid)")
        for statement in schema.ENDINGS:
            older._db.execute(statement)
    with open_store(tmp_path) as opened:
        assert found(opened, "ext:pdf") == ["a.d/Slides.PDF"]
        assert found(opened, "ext:2") == ["Talks v1.2"]
        assert opened._db.all("SELECT type FROM words ORDER BY rowid") == [
            ("other .2",),
            ("document .pdf",),
            ("other",),
        ]
