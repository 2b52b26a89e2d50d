"""IPNS records and public keys as values of the DHT."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare_protocols import ipns, peerid
from p2pshare_protocols.errors import RemoteProtocolError
from tests.support_golden import golden

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = peerid.encode_public_key(1, PRIVATE.public_key().public_bytes_raw())
KEY = b"/ipns/" + peerid.peer_id_to_bytes(peerid.peer_id_from_ed25519(PRIVATE.public_key().public_bytes_raw()))
SAID: dict[str, Any] = {
    "sequence": 7,
    "validity": b"2030-01-02T03:04:05.500000000Z",
    "ttl": 3_600_000_000_000,
}
VALUE = b"/ipfs/bafkqaaa"
ENDS = 1_893_553_445.5


def record(value: bytes = VALUE, **changes: Any) -> bytes:
    said = {**SAID, **changes}
    return ipns.make(value, **said, signature=PRIVATE.sign(ipns.to_sign(value, **said)))


def refused(value: bytes, key: bytes = KEY, now: float = 0.0) -> bool:
    try:
        ipns.check(key, value, now)
    except RemoteProtocolError:
        return True
    return False


def test_a_record_is_read_as_it_was_made() -> None:
    assert ipns.read(KEY, record()) == ipns.Entry(VALUE, 7, ENDS, 3_600_000_000_000)
    assert not refused(record(), now=ENDS - 1)
    assert refused(record(), now=ENDS)


def test_golden_bytes() -> None:
    assert record() == golden("kad.md", "ipns")["record"]


def test_every_flipped_bit_of_what_is_signed_is_noticed() -> None:
    good = record()
    start = good.index(b"\xa5")
    for at in range(start, len(good)):
        assert refused(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    assert refused(good[:-1])
    assert refused(good + b"\x0a\x01x")  # a second value that the signed data do not say


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xa0",
        b"\xa1\x63TTL",
        b"\xbf\xff",
        b"\xa1\x65Value\xd8\x2a\x41x",
        b"\x9f",
        b"\xa1\x65Value\x5b" + b"\xff" * 8,
    ],
)
def test_what_is_signed_but_no_record(data: bytes) -> None:
    signature = PRIVATE.sign(ipns.SIGNED + data)
    assert refused(b"\x42\x40" + signature + b"\x4a" + bytes([len(data)]) + data)


@pytest.mark.parametrize("validity", [b"", b"tomorrow", b"2030-13-01T00:00:00Z", b"2030-01-01T00:00:00+01:00", b"\xff"])
def test_a_record_must_say_when_it_ends(validity: bytes) -> None:
    assert refused(record(validity=validity))


def test_the_higher_sequence_wins_then_the_later_end() -> None:
    later = record(validity=b"2031-01-01T00:00:00Z")
    assert ipns.better(KEY, record(sequence=8), later)
    assert ipns.better(KEY, later, record())
    assert not ipns.better(KEY, record(), record())


def test_a_public_key_stands_under_its_own_name_only() -> None:
    name = b"\x12\x20" + hashlib.sha256(PUBLIC).digest()
    assert not refused(PUBLIC, b"/pk/" + name)
    assert refused(PUBLIC, b"/pk/" + name[:-1] + b"x")
    assert refused(b"junk", b"/pk/" + name)
    assert refused(PUBLIC, b"/other/" + name)


def test_a_key_that_is_not_in_the_name_is_given_beside() -> None:
    name = b"/ipns/\x12\x20" + hashlib.sha256(PUBLIC).digest()
    assert refused(record(), name)
    assert not refused(record() + b"\x3a" + bytes([len(PUBLIC)]) + PUBLIC, name)
    assert refused(record() + b"\x3a\x03abc", name)


def test_a_record_that_is_too_long() -> None:
    assert refused(record(b"x" * 11_000))
