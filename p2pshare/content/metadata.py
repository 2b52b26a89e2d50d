"""What a file says of itself: title and artist, for the index. Never trusted: `metadata_worker` reads it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

import trio

from p2pshare.content.files import open_regular
from p2pshare_protocols.text import clean

MAX_ANSWER: Final = 64 << 10  # bytes
_TIMEOUT: Final = 10.0  # seconds, also when the worker waits and uses no processor
_MAX_TITLE: Final = 300  # characters
_HEAD: Final = 16  # bytes that say what a file is
_WORKER: Final = Path(__file__).with_name("metadata_worker.py")

_log = logging.getLogger(__name__)


class Metadata(NamedTuple):
    """ "" where a file does not say. `type` is one of `query_model.TYPES`."""

    title: str = ""
    type: str = ""


class MetadataReader:
    """`formats`: which of "audio" and "document" are read at all."""

    def __init__(self, formats: Collection[str], *, worker: Path = _WORKER, timeout: float = _TIMEOUT) -> None:
        self._formats = frozenset(formats)
        self._worker = worker
        self._timeout = timeout

    async def read(self, path: str) -> Metadata:
        """Of a regular file. Nothing that a file holds, and no failure to read it, raises."""
        if not self._formats:
            return Metadata()
        try:
            descriptor, _ = await trio.to_thread.run_sync(open_regular, path)
        except OSError as error:
            _log.debug("%s says nothing of itself: %s", path, error)
            return Metadata()
        try:
            found, kind = format_of(os.pread(descriptor, _HEAD, 0))
            if found not in self._formats:
                return Metadata()
            return Metadata(_title(await self._ask(found, descriptor)), kind)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            _log.info("the metadata of %s could not be read: %s", clean(path, limit=1000), error)
            return Metadata(type=kind)
        finally:
            os.close(descriptor)

    async def _ask(self, found: str, descriptor: int) -> bytes:
        """The worker's answer. Raises ValueError when there is none, OSError when it cannot be started."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-I", "-X", "utf8", str(self._worker), found],
            stdin=descriptor,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
        )
        assert process.stdout is not None
        answer = bytearray()
        try:
            with trio.fail_after(self._timeout):
                while len(answer) <= MAX_ANSWER and (more := await process.stdout.receive_some(MAX_ANSWER)):
                    answer += more
                if len(answer) <= MAX_ANSWER and await process.wait() == 0:
                    return bytes(answer)
            raise ValueError(f"the worker ended with {process.returncode}")
        except trio.TooSlowError:
            raise ValueError("the worker took too long") from None
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.stdout.aclose()
                await process.wait()


def format_of(head: bytes) -> tuple[str, str]:
    """(format, type) of a file that begins so; ("", "") when it is none that is read."""
    if head.startswith(b"%PDF-"):
        return "document", "document"
    if head[4:8] == b"ftyp":
        return "audio", "audio" if head[8:11] in (b"M4A", b"M4B") else "video"
    if head.startswith((b"ID3", b"fLaC", b"OggS", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")):
        return "audio", "audio"
    if head[8:12] in (b"WAVE", b"AIFF", b"AIFC") and head[:4] in (b"RIFF", b"FORM"):
        return "audio", "audio"
    return "", ""


def _title(answer: bytes) -> str:
    """Artist and title in one text, as a person would write them. Raises ValueError or TypeError."""
    told = json.loads(answer)
    if not isinstance(told, dict):
        raise TypeError("the worker's answer is no map")
    texts = [told.get(key) for key in ("artist", "title", "album")]
    parts = [clean(text, limit=_MAX_TITLE).strip() for text in texts if isinstance(text, str)]
    return clean(" - ".join(dict.fromkeys(part for part in parts if part)), limit=_MAX_TITLE)
