"""Unsigned varints of multiformats: little-endian groups of seven bits, in their shortest form.

Source: github.com/multiformats/unsigned-varint. At most 9 bytes, which keeps a value below 2**63.
"""

from __future__ import annotations

from p2pshare_protocols.errors import RemoteProtocolError

MAX_BYTES = 9
MAX_VALUE = (1 << 63) - 1
_ONE_BYTE = tuple(bytes((n,)) for n in range(128))


def encode(n: int) -> bytes:
    """The shortest varint of `n`. Raises ValueError outside 0 … 2**63-1."""
    if 0 <= n < 128:
        return _ONE_BYTE[n]
    if n < 0 or n > MAX_VALUE:
        raise ValueError(f"{n} does not fit a varint")
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def decode(buf: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
    """The value at `offset` and the offset behind it.

    Raises RemoteProtocolError when it is cut off, longer than 9 bytes or not in its shortest form.
    """
    value = shift = 0
    end = min(len(buf), offset + MAX_BYTES)
    for at in range(offset, end):
        byte = buf[at]
        value |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                raise RemoteProtocolError("a varint is not in its shortest form")
            return value, at + 1
        shift += 7
    raise RemoteProtocolError("a varint is cut off" if end == len(buf) else "a varint is longer than 9 bytes")
