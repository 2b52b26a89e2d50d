"""Titles out of files: by a process that may do nothing else, and whatever the file holds."""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from p2pshare.content.metadata import Metadata, MetadataReader, format_of
from p2pshare.publish import ShareOptions, share
from p2pshare.store import Store, open_store
from tests.support_publish import RememberingJob

WORKER = """
import json, os, socket, sys
sys.path.insert(0, {content!r})
import metadata_worker as worker
def evil():
    def read(file):
        {what}
    return read
worker.KINDS["audio"] = evil
worker.main()
"""


def id3(**texts: str) -> bytes:
    """An MP3 with an ID3v2.3 tag and one silent frame."""
    frames = b""
    for name, text in texts.items():
        body = b"\x01" + text.encode("utf-16")
        frames += name.encode() + struct.pack(">IH", len(body), 0) + body
    size = len(frames)
    head = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    return b"ID3\x03\0\0" + head + frames + (b"\xff\xfb\x90\x00" + bytes(413)) * 4


def vorbis(*comments: str) -> bytes:
    """A FLAC with a stream info and a comment block, which holds no sound."""
    body = struct.pack("<I", 0) + struct.pack("<I", len(comments))
    for comment in comments:
        body += struct.pack("<I", len(comment.encode())) + comment.encode()
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + bytes.fromhex("0ac442f000000000") + bytes(16)
    return b"fLaC" + b"\0" + len(info).to_bytes(3, "big") + info + b"\x84" + len(body).to_bytes(3, "big") + body


def pdf(title: str) -> bytes:
    parts = [b"%PDF-1.4\n"]
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>", f"<</Title({title})>>".encode()]
    places = []
    for number, body in enumerate(objects, 1):
        places.append(sum(map(len, parts)))
        parts.append(b"%d 0 obj%s endobj\n" % (number, body))
    start = sum(map(len, parts))
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    parts.append(b"xref\n0 4\n0000000000 65535 f \n" + table)
    parts.append(b"trailer<</Size 4/Root 1 0 R/Info 3 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start)
    return b"".join(parts)


async def test_a_file_says_its_title(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(id3(TIT2="Größe", TPE1="Bach\u202e\x1b[2J", TALB="Album"))
    (tmp_path / "b.flac").write_bytes(vorbis("TITLE=Consensus", "ARTIST=Raft"))
    (tmp_path / "c").write_bytes(id3(TIT2="x" * 5000))
    (tmp_path / "d.pdf").write_bytes(pdf("In search of an understandable consensus"))
    (tmp_path / "e.txt").write_text("TITLE=no")
    with wave.open(str(tmp_path / "f.wav"), "wb") as sound:
        sound.setparams((1, 1, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(100))
    both = MetadataReader(("audio", "document"))
    found = await both.read(str(tmp_path / "a.mp3"))
    assert found.title.startswith("Bach")
    assert found.title.endswith(" - Größe - Album")
    assert not {"\u202e", "\x1b"} & set(found.title)
    assert await both.read(str(tmp_path / "b.flac")) == Metadata("Raft - Consensus", "audio")
    assert len((await both.read(str(tmp_path / "c"))).title) <= 300
    assert await both.read(str(tmp_path / "d.pdf")) == Metadata("In search of an understandable consensus", "document")
    assert await both.read(str(tmp_path / "f.wav")) == Metadata("", "audio")
    assert await both.read(str(tmp_path / "e.txt")) == Metadata()
    assert await both.read(str(tmp_path / "not there")) == Metadata()
    assert await MetadataReader(("audio",)).read(str(tmp_path / "d.pdf")) == Metadata()
    assert await MetadataReader(()).read(str(tmp_path / "a.mp3")) == Metadata()


# What a library does that a file has taken over. `out` is a place that it must not be able to write to.
EVIL = {
    "takes all memory": "return {'title': 'x' * (4 << 30)}",
    "computes without end": "\n        while True: pass",
    "waits without end": "import time; time.sleep(1000)",
    "writes a file": "open({out!r}, 'w').write('x'); return {{'title': 'got out'}}",
    "reads a file": "return {{'title': open('/etc/hostname').read()}}",
    "asks the network": "socket.socket(); return {'title': 'got out'}",
    "starts a process": "import subprocess; return {'title': subprocess.check_output(['id'], text=True)}",
    "says no JSON": "os.write(1, b'[1,2'); os._exit(0)",
    "says a list": "os.write(1, b'[1]'); os._exit(0)",
    "says nonsense deeply": "os.write(1, b'[' * 60000); os._exit(0)",
    "says without end": "\n        while True: os.write(1, b'x' * 65536)",
    "crashes": "os.abort()",
}


@pytest.mark.parametrize("case", EVIL)
async def test_a_library_that_a_file_took_over_gets_nothing_and_ends(case: str, tmp_path: Path) -> None:
    import p2pshare.content.metadata as here

    what = EVIL[case].format(out=str(tmp_path / "out")) if "{out" in EVIL[case] or "{{" in EVIL[case] else EVIL[case]
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(content=str(Path(here.__file__).parent), what=what))
    (tmp_path / "a.mp3").write_bytes(id3(TIT2="x"))
    reader = MetadataReader(("audio",), worker=script, timeout=8 if case == "computes without end" else 3)
    with trio.fail_after(30):
        assert await reader.read(str(tmp_path / "a.mp3")) == Metadata("", "audio")
    assert not (tmp_path / "out").exists()


async def test_a_worker_that_does_what_it_should_is_heard(tmp_path: Path) -> None:
    """So that the ones above fail for what they do."""
    import p2pshare.content.metadata as here

    script = tmp_path / "worker.py"
    what = "return {'title': 'fine'}"
    script.write_text(WORKER.format(content=str(Path(here.__file__).parent), what=what))
    (tmp_path / "a.mp3").write_bytes(id3(TIT2="x"))
    assert (await MetadataReader(("audio",), worker=script).read(str(tmp_path / "a.mp3"))).title == "fine"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home" / "catalogue") as opened:
        yield opened


@pytest.mark.parametrize(
    ("options", "title"),
    [({}, "Raft"), ({"title": "mine"}, "mine"), ({"index": False}, "")],
)
async def test_a_share_takes_the_title_when_it_has_none(
    store: Store, tmp_path: Path, options: dict[str, object], title: str
) -> None:
    (tmp_path / "sound").write_bytes(id3(TIT2="Raft"))
    wanted = ShareOptions.from_params({"paths": [str(tmp_path / "sound")], **options})
    reader = MetadataReader(("audio",))
    done = await share(store=store, options=wanted, job=RememberingJob(), announce=None, metadata=reader)
    item = store.items.by_path(str(tmp_path / "sound"))
    assert item is not None
    assert item.title == title
    assert done["name"] == "sound"


async def test_a_share_goes_on_when_the_worker_is_killed(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    (tmp_path / "a.mp3").write_bytes(id3(TIT2="Raft"))
    wanted = ShareOptions(paths=(str(tmp_path / "a.mp3"),))
    reader = MetadataReader(("audio",), worker=script)
    await share(store=store, options=wanted, job=RememberingJob(), announce=None, metadata=reader)
    item = store.items.by_path(str(tmp_path / "a.mp3"))
    assert item is not None
    assert (item.title, item.type) == ("", "audio")


def test_what_begins_like_nothing_known_is_nothing() -> None:
    assert format_of(b"") == ("", "")
    assert format_of(b"RIFF0000AVI ") == ("", "")
    assert format_of(b"\0\0\0\x20ftypM4A ") == ("audio", "audio")
    assert format_of(b"\0\0\0\x20ftypisom") == ("audio", "video")
