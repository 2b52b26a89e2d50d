"""What a file is, by its name and by how it begins."""

from __future__ import annotations

import io
import os
import tarfile
import wave
import zipfile
from pathlib import Path

import pytest

from p2pshare.store.filetypes import LOOKED_AT, type_of, type_of_bytes, type_of_file


def _zip(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else "x")
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return out.getvalue()


def _wave() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * 100)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "image"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "video"),
        (b"\x1aE\xdf\xa3\xa3B\x86\x81\1", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "audio"),
        (b"ID3\4\0\0\0\0\0\0", "audio"),
        (b"\xff\xfb\x90\x64\0\0", "audio"),
        (_wave(), "audio"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "document"),
        (_zip("mimetype", "META-INF/container.xml"), "document"),
        (_zip("[Content_Types].xml", "word/document.xml"), "document"),
        (_zip("META-INF/MANIFEST.MF"), "software"),
        (b"\x7fELF\2\1\1\0", "software"),
        (b"!<arch>\ndebian-binary   ", "software"),
        (_zip("a.txt"), "archive"),
        (_tar(), "archive"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "archive"),
        (b"#!/bin/sh\necho hello\n", "text"),
        ("이것은 텍스트입니다\n".encode() * 100, "text"),
        (b"\xff\xff\xff\xff", "other"),
        (b"a text\0with a zero", "other"),
        (b"\xed\xa0\x80", "other"),
        (b"", "other"),
    ],
)
def test_a_file_whose_name_says_nothing_is_told_by_its_beginning(tmp_path: Path, content: bytes, kind: str) -> None:
    assert type_of_bytes(content[:LOOKED_AT]) == kind
    file = tmp_path / "nameless"
    file.write_bytes(content)
    assert type_of_file(str(file)) == kind


def test_text_may_be_cut_inside_a_character() -> None:
    for before in range(4):
        assert type_of_bytes((b"a" * before + "😀".encode() * 200)[:LOOKED_AT]) == "text"
    assert type_of_bytes("😀".encode()[:3]) == "other"  # not cut by us: it is all there is


def test_what_cannot_be_read_is_other(tmp_path: Path) -> None:
    assert type_of_file(str(tmp_path / "gone")) == "other"
    assert type_of_file(str(tmp_path)) == "other"
    os.mkfifo(tmp_path / "pipe")
    assert type_of_file(str(tmp_path / "pipe")) == "other"  # and does not wait for a writer


def test_a_name_that_says_it_is_believed() -> None:
    assert type_of("book.epub") == "document"
    assert type_of("nameless", "audio/ogg") == "audio"
    assert type_of("nameless") == "other"
