"""MurmurHash3 x64 128, its first 64 bits: the hash by which HAMT directories are sharded. Public domain algorithm of
Austin Appleby (github.com/aappleby/smhasher); the seed is 0.
"""

from __future__ import annotations

from typing import Final

_M: Final = (1 << 64) - 1
_C1: Final = 0x87C37B91114253D5
_C2: Final = 0x4CF5AD432745937F


def murmur3_x64_64(data: bytes) -> int:
    """The first half of the 128-bit hash, as a number below 2**64."""
    h1 = h2 = 0
    size = len(data)
    whole = size & ~15
    word = int.from_bytes
    for at in range(0, whole, 16):
        k1 = word(data[at : at + 8], "little") * _C1 & _M
        k1 = ((k1 << 31) | (k1 >> 33)) * _C2 & _M
        h1 ^= k1
        h1 = ((h1 << 27) | (h1 >> 37)) + h2 & _M
        h1 = h1 * 5 + 0x52DCE729 & _M
        k2 = word(data[at + 8 : at + 16], "little") * _C2 & _M
        k2 = ((k2 << 33) | (k2 >> 31)) * _C1 & _M
        h2 ^= k2
        h2 = ((h2 << 31) | (h2 >> 33)) + h1 & _M
        h2 = h2 * 5 + 0x38495AB5 & _M
    if size != whole:
        if size > whole + 8:
            k2 = word(data[whole + 8 :], "little") * _C2 & _M
            h2 ^= ((k2 << 33) | (k2 >> 31)) * _C1 & _M
        k1 = word(data[whole : whole + 8], "little") * _C1 & _M
        h1 ^= ((k1 << 31) | (k1 >> 33)) * _C2 & _M
    h1 ^= size
    h2 ^= size
    h1 = h1 + h2 & _M
    h2 = h2 + h1 & _M
    return _mix(h1) + _mix(h2) & _M


def _mix(k: int) -> int:
    k = (k ^ k >> 33) * 0xFF51AFD7ED558CCD & _M
    k = (k ^ k >> 33) * 0xC4CEB9FE1A85EC53 & _M
    return k ^ k >> 33
