"""Which of the eight types (`query_model.TYPES`) a file is: told from its name, and where that says nothing, from how
its bytes begin.

The signatures are our own few: of the libraries, puremagic 1.30 takes plain text for an .odt and 0.2 to 0.5 ms a file
(here 0.006 ms), and libmagic is a C library with a parser for everything that a stranger may send.
"""

from __future__ import annotations

import os
import stat
from typing import Final

_BY_EXTENSION: Final = {
    extension: kind
    for kind, extensions in {
        "video": "mkv webm mp4 m4v avi mov wmv flv ogv mpg mpeg ts m2ts 3gp vob rmvb divx",
        "audio": "mp3 flac ogg oga opus m4a m4b aac wav wma aiff ape mid midi mka ac3 dts",
        "image": "jpg jpeg png gif webp avif heic heif tif tiff bmp svg psd xcf raw cr2 nef arw dng ico jxl",
        "document": "pdf epub mobi azw azw3 djvu doc docx odt rtf xls xlsx ods ppt pptx odp ps tex fb2 cbz cbr chm",
        "archive": "zip rar 7z tar gz tgz bz2 tbz xz txz zst lz4 lzma cab car cpio ar zpaq",
        "software": "iso img exe msi dmg pkg deb rpm apk appimage flatpak snap jar whl bin so dll vmdk qcow2 wasm",
        "text": "txt md rst log csv tsv json xml html htm yaml yml toml ini conf py c h cc cpp hpp rs go js css sh"
        " java rb pl lua sql srt vtt sub ass nfo tex bib patch diff ipynb",
    }.items()
    for extension in extensions.split()
}
_BY_MIME: Final = {"video": "video", "audio": "audio", "image": "image", "text": "text"}

LOOKED_AT: Final = 512  # bytes of a file's beginning; a tar says that it is one at 257

# (where, what, type), as the formats' own specifications have it. A later line speaks only when no earlier one did.
_SIGNATURES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x1aE\xdf\xa3", "video"),  # Matroska, WebM
    (0, b"FLV\x01", "video"),
    (0, b"\0\0\1\xba", "video"),  # MPEG program stream
    (0, b"\0\0\1\xb3", "video"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "video"),  # ASF
    (4, b"ftypM4A", "audio"),
    (4, b"ftypM4B", "audio"),
    (4, b"ftypavif", "image"),
    (4, b"ftyphei", "image"),
    (4, b"ftypmif1", "image"),
    (4, b"ftyp", "video"),
    (4, b"moov", "video"),
    (8, b"AVI LIST", "video"),
    (8, b"WAVEfmt ", "audio"),
    (8, b"WEBPVP8", "image"),
    (0, b"ID3", "audio"),
    (0, b"fLaC", "audio"),
    (28, b"\x80theora", "video"),
    (0, b"OggS", "audio"),
    (0, b"MThd\0\0\0\6", "audio"),
    (0, b"MAC ", "audio"),
    (8, b"AIFF", "audio"),
    (0, b"\x89PNG\r\n\x1a\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
    (0, b"GIF87a", "image"),
    (0, b"GIF89a", "image"),
    (0, b"II*\0", "image"),
    (0, b"MM\0*", "image"),
    (0, b"8BPS\0\1", "image"),
    (0, b"gimp xcf ", "image"),
    (0, b"\xff\x0a", "image"),  # JPEG XL
    (0, b"%PDF-", "document"),
    (0, b"%!PS-Adobe", "document"),
    (0, b"{\\rtf1", "document"),
    (0, b"AT&TFORM", "document"),  # DjVu
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document"),  # the older Office
    (60, b"BOOKMOBI", "document"),
    (30, b"mimetypeapplication/epub", "document"),
    (30, b"mimetypeapplication/vnd.oasis", "document"),
    (30, b"[Content_Types].xml", "document"),  # the newer Office
    (30, b"META-INF/", "software"),  # jar
    (30, b"AndroidManifest.xml", "software"),
    (0, b"\x7fELF", "software"),
    (0, b"\xed\xab\xee\xdb", "software"),  # rpm
    (0, b"!<arch>\ndebian-binary", "software"),
    (0, b"\0asm", "software"),
    (0, b"QFI\xfb", "software"),
    (0, b"KDMV", "software"),
    (0, b"\xcf\xfa\xed\xfe", "software"),  # Mach-O
    (0, b"MZ", "software"),
    (0, b"PK\3\4", "archive"),
    (0, b"PK\5\6", "archive"),
    (0, b"Rar!\x1a\x07", "archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (0, b"\x1f\x8b\x08", "archive"),
    (0, b"BZh", "archive"),
    (0, b"\xfd7zXZ\0", "archive"),
    (0, b"\x28\xb5\x2f\xfd", "archive"),  # zstd
    (0, b"\x04\x22\x4d\x18", "archive"),  # lz4
    (0, b"MSCF\0\0\0\0", "archive"),
    (0, b"!<arch>\n", "archive"),
    (257, b"ustar", "archive"),
)
_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f\x1b")


def type_of(name: str, mime: str = "") -> str:
    """ "video", "audio", "image", "document", "archive", "software", "text" or "other"."""
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    found = _BY_EXTENSION.get(extension)
    if found is None and mime:
        found = _BY_MIME.get(mime.partition("/")[0])
    return found or "other"


def type_of_bytes(head: bytes) -> str:
    """The type of a file that begins so; `head` is its first LOOKED_AT bytes, or all. "other" when nothing tells."""
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:  # an MPEG audio frame, layer III or II
        return "audio"
    return "text" if _is_text(head) else "other"


def type_of_file(path: str) -> str:
    """`type_of_bytes` of a file on disk; "other" when it cannot be read now, or is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return "other"
            return type_of_bytes(os.pread(descriptor, LOOKED_AT, 0))
        finally:
            os.close(descriptor)
    except OSError:
        return "other"


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without control characters; what is cut off at the end does not count."""
    if not head or any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in head):
        return False
    for cut in range(4 if len(head) >= LOOKED_AT else 1):
        try:
            head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return True
    return False
