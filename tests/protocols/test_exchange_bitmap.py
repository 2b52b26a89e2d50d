"""Bitmaps: what a holder has, what a fetch has verified."""

import pytest

from p2pshare_protocols.bitmap import Bitmap
from p2pshare_protocols.errors import RemoteProtocolError


def test_bits_are_kept_counted_and_listed_in_order() -> None:
    bitmap = Bitmap(11)
    assert bitmap.add(9)
    assert bitmap.add(0)
    assert not bitmap.add(9)
    assert (list(bitmap), bitmap.count) == ([0, 9], 2)
    assert (0 in bitmap, 1 in bitmap, 11 in bitmap, -1 in bitmap) == (True, False, False, False)
    bitmap.discard(0)
    bitmap.discard(5)
    assert (list(bitmap), bitmap.count) == ([9], 1)


def test_the_first_bit_is_the_highest_of_the_first_byte_as_the_specification_shows() -> None:
    bitmap = Bitmap(9)
    bitmap.add(0)
    bitmap.add(8)
    assert bitmap.to_bytes() == b"\x80\x80"
    assert Bitmap.from_bytes(b"\x80\x80", 9) == bitmap
    assert Bitmap(9, full=True).to_bytes() == b"\xff\x80"


def test_full_and_covers() -> None:
    full = Bitmap(9, full=True)
    assert full.full
    assert full.covers(0, 9)
    assert not full.covers(0, 10)
    full.discard(4)
    assert not full.covers(3, 5)
    assert full.covers(5, 9)
    assert Bitmap(0).full


@pytest.mark.parametrize(("data", "size"), [(b"", 1), (b"\x00\x00", 8), (b"\x01", 7), (b"\xff\xc0", 9)])
def test_a_bitmap_of_the_wrong_length_or_with_bits_behind_its_end_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        Bitmap.from_bytes(data, size)


def test_a_bit_outside_cannot_be_set() -> None:
    with pytest.raises(IndexError):
        Bitmap(3).add(3)
    with pytest.raises(ValueError):
        Bitmap(-1)
