"""Yamux frame headers: twelve bytes, big-endian: version, type, flags, stream, length.

Source: github.com/hashicorp/yamux, spec.md. `length` is the count of bytes that follow for DATA, the increment for
WINDOW_UPDATE, an opaque value for PING and a reason for GO_AWAY.
"""

from __future__ import annotations

import struct

HEADER = 12
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
ALL_FLAGS = SYN | ACK | FIN | RST
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)
"""Reasons of a GO_AWAY."""

_HEADER = struct.Struct(">BBHII")
unpack = _HEADER.unpack
unpack_from = _HEADER.unpack_from


def frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    """A header; the data of a DATA frame follows it."""
    return _HEADER.pack(0, kind, flags, stream, length)
