"""Which of the eight types (`query_model.TYPES`) a file is, told from its name alone."""

from __future__ import annotations

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


def type_of(name: str, mime: str = "") -> str:
    """ "video", "audio", "image", "document", "archive", "software", "text" or "other"."""
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    found = _BY_EXTENSION.get(extension)
    if found is None and mime:
        found = _BY_MIME.get(mime.partition("/")[0])
    return found or "other"
