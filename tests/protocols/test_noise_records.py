"""Records: any cut of the plaintext, every kind of damage, the counter and the change of keys."""

from __future__ import annotations

import itertools

import pytest

from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.noise_cipher import (
    MAX_PLAINTEXT,
    NOISE,
    NOISE_AESGCM,
    REKEY_EVERY,
    Cipher,
    open_records,
    open_records_to,
    seal_into,
    sealed_size,
)

KEY = bytes(range(32))
both_suites = pytest.mark.parametrize("suite", [NOISE, NOISE_AESGCM])


def seal(suite: str, *parts: bytes) -> bytearray:
    out = bytearray(sealed_size(sum(map(len, parts))))
    written = seal_into(Cipher(suite, KEY), [memoryview(part) for part in parts], memoryview(out))
    assert written == len(out)
    return out


def open_all(suite: str, wire: bytes | bytearray) -> tuple[bytes, int]:
    views, used = open_records(Cipher(suite, KEY), memoryview(bytearray(wire)))
    return b"".join(views), used


@both_suites
@pytest.mark.parametrize("sizes", [
    (1,), (0, 1, 0), (MAX_PLAINTEXT,), (MAX_PLAINTEXT + 1,), (12, MAX_PLAINTEXT), (12, 3 * MAX_PLAINTEXT, 5),
    (MAX_PLAINTEXT - 1, 1, 1), tuple([100] * 1000), (12, 1 << 20),
])  # fmt: skip
def test_what_is_sealed_is_opened(suite: str, sizes: tuple[int, ...]) -> None:
    letters = itertools.cycle(b"abcdefgh")
    parts = [bytes([next(letters)]) * size for size in sizes]
    wire = seal(suite, *parts)
    assert open_all(suite, wire) == (b"".join(parts), len(wire))
    records, at = 0, 0
    while at < len(wire):
        at += 2 + int.from_bytes(wire[at : at + 2], "big")
        records += 1
    assert records == -(-sum(sizes) // MAX_PLAINTEXT)  # every record but the last is full


@both_suites
def test_a_changed_byte_is_found_wherever_it_is(suite: str) -> None:
    wire = seal(suite, bytes(200))
    for position in range(2, len(wire)):
        damaged = bytearray(wire)
        damaged[position] ^= 0x10
        with pytest.raises(RemoteProtocolError, match="authenticate"):
            open_all(suite, damaged)


@both_suites
def test_a_changed_length_is_found(suite: str) -> None:
    wire = seal(suite, bytes(200))
    for length in (0, 15):
        with pytest.raises(RemoteProtocolError, match="shorter than its tag"):
            open_all(suite, length.to_bytes(2, "big") + wire[2:])
    with pytest.raises(RemoteProtocolError, match="authenticate"):
        open_all(suite, (100).to_bytes(2, "big") + wire[2:])
    assert open_all(suite, (217).to_bytes(2, "big") + wire[2:]) == (b"", 0)  # waits for a byte that does not come


@both_suites
def test_records_cannot_be_dropped_repeated_or_swapped(suite: str) -> None:
    cipher = Cipher(suite, KEY)
    records = []
    for text in (b"one", b"two", b"three"):
        out = bytearray(sealed_size(len(text)))
        seal_into(cipher, [memoryview(text)], memoryview(out))
        records.append(bytes(out))
    one, two, three = records
    assert open_all(suite, one + two + three)[0] == b"onetwothree"
    for wire in (two + one, one + three, one + one, one + two + one):
        with pytest.raises(RemoteProtocolError):
            open_all(suite, wire)


@both_suites
def test_a_cut_record_is_left_for_later(suite: str) -> None:
    wire = seal(suite, b"first") + b""
    whole = len(wire)
    second = Cipher(suite, KEY)
    second.counter = 1
    more = bytearray(sealed_size(6))
    seal_into(second, [memoryview(b"second")], memoryview(more))
    for cut in range(len(more)):
        assert open_all(suite, wire + more[:cut]) == (b"first", whole)


@both_suites
def test_empty_records_mean_nothing(suite: str) -> None:
    cipher = Cipher(suite, KEY)
    wire = b"\x00\x10" + cipher.encrypt(b"", b"")
    assert open_all(suite, wire) == (b"", 18)


def test_aes_changes_its_key_and_chacha_does_not() -> None:
    for suite, changes in ((NOISE_AESGCM, True), (NOISE, False)):
        fresh, late = Cipher(suite, KEY), Cipher(suite, KEY)
        late.counter = fresh.counter = REKEY_EVERY
        late._rekeys = False
        assert (fresh.encrypt(b"x", b"") != late.encrypt(b"x", b"")) is changes
        assert fresh.counter == REKEY_EVERY + 1
    sender, receiver = Cipher(NOISE_AESGCM, KEY), Cipher(NOISE_AESGCM, KEY)
    sender.counter = receiver.counter = 2 * REKEY_EVERY - 1
    for text in (b"a", b"b", b"c"):
        assert receiver.decrypt(sender.encrypt(text, b""), b"") == text


@both_suites
def test_the_last_nonce_is_never_used(suite: str) -> None:
    cipher = Cipher(suite, KEY)
    cipher.counter = 2**64 - 1
    with pytest.raises(LocalProtocolError, match="used up"):
        cipher.encrypt(b"", b"")


class Places:
    """Has room for what is longer than `least` bytes."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.out = bytearray(1 << 20)
        self.filled = self.placed_bytes = 0

    def room(self, size: int) -> memoryview | None:
        return memoryview(self.out)[self.filled : self.filled + size] if size > self.least else None

    def placed(self, size: int) -> None:
        self.filled += size
        self.placed_bytes += size

    def take(self, plaintext: memoryview) -> None:
        self.out[self.filled : self.filled + len(plaintext)] = plaintext
        self.filled += len(plaintext)


@both_suites
def test_records_go_where_they_belong(suite: str) -> None:
    sender, text = Cipher(suite, KEY), bytes(range(256)) * 1000
    wire = bytearray()
    for part in (text[:300], b"", text[300 : MAX_PLAINTEXT + 300], text[MAX_PLAINTEXT + 300 :]):
        sealed = bytearray(sealed_size(len(part)) or 18)
        if part:
            seal_into(sender, [memoryview(part)], memoryview(sealed))
        else:
            sealed[:2] = (16).to_bytes(2, "big")
            sender.encrypt_into(memoryview(b""), memoryview(sealed)[2:])
        wire += sealed
    receiver, places = Cipher(suite, KEY), Places(least=1000)
    used = open_records_to(receiver, memoryview(wire), places)
    assert used == len(wire)
    assert places.out[: places.filled] == text
    assert places.placed_bytes == len(text) - 300


@both_suites
def test_a_damaged_record_is_not_placed(suite: str) -> None:
    wire = seal(suite, bytes(5000), bytes(5000))
    wire[4000] ^= 1
    places = Places(least=0)
    with pytest.raises(RemoteProtocolError):
        open_records_to(Cipher(suite, KEY), memoryview(wire), places)
    assert places.filled == 0
