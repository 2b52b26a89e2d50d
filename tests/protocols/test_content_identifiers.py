"""Varints, multibase, CIDs and peer IDs, against known values and hostile bytes."""

from __future__ import annotations

import hashlib

import pytest

from p2pshare_protocols import multibase, peerid, varint
from p2pshare_protocols.cid import BLAKE3, CID, DAG_PB, MAX_DIGEST, RAW, UnsupportedHash
from p2pshare_protocols.errors import RemoteProtocolError

HELLO = b"hello world\n"
HELLO_CID = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"


@pytest.mark.parametrize("n", [0, 1, 127, 128, 255, 300, 16384, 2**32, 2**63 - 1])
def test_varints_come_back(n: int) -> None:
    assert varint.decode(b"x" + varint.encode(n) + b"y", 1) == (n, 1 + len(varint.encode(n)))


def test_varint_golden_bytes() -> None:
    assert varint.encode(300) == b"\xac\x02"


@pytest.mark.parametrize("bad", [b"", b"\x80", b"\x80\x00", b"\xff" * 9 + b"\x01", b"\x80" * 9])
def test_varints_that_are_not(bad: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        varint.decode(bad)


@pytest.mark.parametrize("n", [-1, 2**63])
def test_varint_range(n: int) -> None:
    with pytest.raises(ValueError):
        varint.encode(n)


def test_base58_keeps_leading_zeros() -> None:
    assert multibase.base58_encode(b"\0\0\x01") == "112"
    assert multibase.base58_decode("112") == b"\0\0\x01"
    assert multibase.base58_decode("") == b""


@pytest.mark.parametrize("bad", ["0", "l", "é", "1" * 257])
def test_base58_refuses(bad: str) -> None:
    with pytest.raises(RemoteProtocolError):
        multibase.base58_decode(bad)


def test_cid_of_a_raw_block() -> None:
    cid = CID.of(RAW, HELLO)
    assert str(cid) == HELLO_CID
    assert cid.version == 1
    assert cid.codec == RAW
    assert cid.digest == hashlib.sha256(HELLO).digest()
    assert cid.matches(HELLO)
    assert not cid.matches(HELLO + b"!")
    assert CID.parse(HELLO_CID) == cid
    assert CID.from_binary(cid.binary) == cid
    assert hash(CID.parse(HELLO_CID)) == hash(cid)
    assert CID.read(b"??" + cid.binary + b"tail", 2) == (cid, 2 + len(cid.binary))


@pytest.mark.parametrize(
    "text",
    [
        HELLO_CID.upper(),
        "z" + multibase.base58_encode(CID.parse(HELLO_CID).binary),
        "f" + CID.parse(HELLO_CID).binary.hex(),
        "k2cwueckqkibutvhkr4p2ln2pjcaxaakpd9db0e7j7ax1lxhhxy3ekpv",
    ],
)
def test_cids_in_other_bases(text: str) -> None:
    cid = CID.parse(text)
    assert cid.version == 1
    assert str(CID.parse(str(cid))) == str(cid)


def test_version_0_becomes_version_1() -> None:
    old = CID.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
    assert old.version == 0
    assert old.codec == DAG_PB
    assert str(old) == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    assert str(old.v1) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    assert old != old.v1
    assert old.v1.v1 == old.v1
    assert CID.from_binary(old.binary) == old


def test_identity_cids_carry_their_block() -> None:
    cid = CID.of(RAW, b"tiny", "identity")
    assert CID.parse(str(cid)) == cid
    assert cid.digest == b"tiny"
    assert cid.matches(b"tiny")
    assert not cid.matches(b"tinY")
    with pytest.raises(ValueError):
        CID.of(RAW, bytes(MAX_DIGEST + 1), "identity")


def test_blake3() -> None:
    cid = CID.of(RAW, HELLO, "blake3")
    assert cid.hash_code == BLAKE3
    assert cid.matches(HELLO)
    assert not cid.matches(b"")
    assert CID.parse(str(cid)) == cid


def test_a_hash_we_cannot_compute() -> None:
    cid = CID.from_binary(b"\x01\x55\x13\x40" + bytes(64))
    with pytest.raises(UnsupportedHash):
        cid.matches(b"")


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x12\x20" + bytes(31),
        b"\x12\x20" + bytes(33),
        b"\x01\x55\x12\x1f" + bytes(31),
        b"\x01\x55\x12\x20" + bytes(31),
        b"\x01\x55\x12\x20" + bytes(33),
        b"\x02\x55\x12\x20" + bytes(32),
        b"\x00\x55\x12\x20" + bytes(32),
        b"\x01\x80\x00\x12\x20" + bytes(32),
        b"\x01\x55\x00\x81\x01" + bytes(129),
        bytes(1000),
    ],
)
def test_binaries_that_are_no_cid(bad: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        CID.from_binary(bad)


@pytest.mark.parametrize(
    "bad", ["", "b", "Qm", "bafy", HELLO_CID[:-1], HELLO_CID + "a", "Qm" + "0" * 44, "bafk\ud800aaaaaa", "b" * 300]
)
def test_texts_that_are_no_cid(bad: str) -> None:
    with pytest.raises(RemoteProtocolError):
        CID.parse(bad)


def test_ed25519_peer_ids() -> None:
    # Vector of the libp2p peer-ids specification (its Ed25519 public key in hex).
    encoded = bytes.fromhex("080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    key_type, public = peerid.decode_public_key(encoded)
    assert key_type == peerid.ED25519
    assert peerid.encode_public_key(key_type, public) == encoded
    peer = peerid.peer_id_from_ed25519(public)
    assert peer.startswith("12D3KooW")
    assert peerid.peer_id_from_public_key(encoded) == peer
    assert peerid.ed25519_from_peer_id(peer) == public
    assert peerid.peer_id_from_bytes(peerid.peer_id_to_bytes(peer)) == peer


def test_peer_ids_written_as_cids() -> None:
    known = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
    as_cid = str(CID(1, 0x72, peerid.peer_id_to_bytes(known)))
    assert as_cid.startswith("bafz")
    assert peerid.check_peer_id(as_cid) == known
    assert peerid.ed25519_from_peer_id(known) is None


def test_long_keys_are_hashed() -> None:
    encoded = peerid.encode_public_key(peerid.RSA, bytes(300))
    assert peerid.peer_id_from_public_key(encoded).startswith("Qm")


@pytest.mark.parametrize("bad", ["", "12D3Koo", "Qm", "hello", HELLO_CID, "1" * 400, "12D3KooW" + "z" * 44])
def test_texts_that_are_no_peer_id(bad: str) -> None:
    with pytest.raises(RemoteProtocolError):
        peerid.check_peer_id(bad)


@pytest.mark.parametrize("bad", [b"", b"\x08", b"\x08\x01", b"\x08\x01\x12\x1f" + bytes(31), b"\x08\x09\x12\x00"])
def test_bytes_that_are_no_key(bad: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        peerid.decode_public_key(bad)
