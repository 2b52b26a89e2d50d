"""A set of small integers as bits: which leaves a holder has, which pieces of a fetch are verified.

Bit 0 is the highest bit of byte 0 (as in BitTorrent's BEP 3 bitfield), unused bits at the end are zero.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2pshare_protocols.errors import RemoteProtocolError


class Bitmap:
    """`size` bits, all zero at first. Mutable; `count` is kept, so asking for it costs nothing."""

    __slots__ = ("_bits", "count", "size")

    def __init__(self, size: int, *, full: bool = False) -> None:
        if size < 0:
            raise ValueError("a bitmap cannot have a negative size")
        self.size = size
        self.count = size if full else 0
        self._bits = bytearray(b"\xff" if full else b"\x00") * ((size + 7) // 8)
        if full and size % 8:
            self._bits[-1] = 0xFF00 >> size % 8 & 0xFF

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, size: int) -> Bitmap:
        """Raises RemoteProtocolError when the length does not fit `size` bits or an unused bit is set."""
        if len(data) != (size + 7) // 8:
            raise RemoteProtocolError(f"a bitmap of {size} bits has {len(data)} bytes")
        if size % 8 and data[-1] & (0xFF >> size % 8):
            raise RemoteProtocolError("a bitmap sets bits behind its end")
        bitmap = cls(size)
        bitmap._bits = bytearray(data)
        bitmap.count = int.from_bytes(data, "big").bit_count()
        return bitmap

    def to_bytes(self) -> bytes:
        return bytes(self._bits)

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self.size and bool(self._bits[index >> 3] & (0x80 >> (index & 7)))

    def add(self, index: int) -> bool:
        """Set a bit; False when it was set already. Raises IndexError outside."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        mask = 0x80 >> (index & 7)
        if self._bits[index >> 3] & mask:
            return False
        self._bits[index >> 3] |= mask
        self.count += 1
        return True

    def discard(self, index: int) -> None:
        if index in self:
            self._bits[index >> 3] &= ~(0x80 >> (index & 7)) & 0xFF
            self.count -= 1

    def covers(self, first: int, end: int) -> bool:
        """Whether every bit of [first, end) is set. An empty range inside is covered."""
        if end > self.size:
            return False
        return all(index in self for index in range(first, end))

    @property
    def full(self) -> bool:
        return self.count == self.size

    def __iter__(self) -> Iterator[int]:
        """The set bits, ascending."""
        for at, byte in enumerate(self._bits):
            if byte:
                yield from (at * 8 + bit for bit in range(8) if byte & (0x80 >> bit))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bitmap) and self.size == other.size and self._bits == other._bits

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Bitmap({self.count} of {self.size})"
