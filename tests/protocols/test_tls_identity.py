"""Peers in TLS certificates: libp2p's own test vectors, every kind of key, and everything that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.peerid import ECDSA, ED25519, RSA, SECP256K1, encode_public_key, peer_id_from_public_key
from p2pshare_protocols.tls_identity import (
    EXTENSION,
    MAX_CERTIFICATE,
    SIGNED_PREFIX,
    choose_protocol,
    decode_signed_key,
    encode_signed_key,
    make_certificate,
    offer_protocols,
    verify_certificate,
)
from tests.support_golden import golden

NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
IDENTITY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
PUBLIC = encode_public_key(ED25519, IDENTITY.public_key().public_bytes_raw())
KEY = ec.derive_private_key(7, ec.SECP256R1())
SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("name", "peer_id"),
    [
        ("ed25519", "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"),
        ("ecdsa", "QmfXbAwNjJLXfesgztEHe8HwgVDCMMpZ9Eax1HYq6hn9uE"),
        ("secp256k1", "16Uiu2HAkutTMoTzDw1tCvSRtu6YoixJwS46S1ZFxW8hSx9fWHiPs"),
    ],
)
def test_the_certificates_of_the_specification_prove_their_peers(name: str, peer_id: str) -> None:
    certificate = golden("tls.md", "certificates")[name]
    assert peer_id_from_public_key(verify_certificate(certificate, NOW)) == peer_id


def test_the_certificate_of_another_signer_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="did not sign"):
        verify_certificate(golden("tls.md", "certificates")["wrong signer"], NOW)


def test_a_signed_key_has_the_golden_bytes() -> None:
    wire = golden("tls.md", "signed key")["signed key"]
    key = encode_public_key(ED25519, b"\1" * 32)
    assert encode_signed_key(key, b"\2" * 64) == wire
    assert decode_signed_key(wire) == (key, b"\2" * 64)
    for count in range(len(wire)):
        with pytest.raises(RemoteProtocolError):
            decode_signed_key(wire[:count])
    with pytest.raises(RemoteProtocolError):
        decode_signed_key(wire + b"\0")


@pytest.mark.parametrize("sizes", [(1, 1), (127, 128), (255, 256), (2048, 2048)])
def test_signed_keys_of_every_length_come_back(sizes: tuple[int, int]) -> None:
    parts = bytes(sizes[0]), bytes(sizes[1])
    assert decode_signed_key(encode_signed_key(*parts)) == parts


@pytest.mark.parametrize(
    "wire",
    [
        bytes.fromhex("3081060401aa0401bb"),  # a length not in its shortest form
        bytes.fromhex("3082000604" + "01aa0401bb"),
        bytes.fromhex("30800401aa0401bb0000"),  # of indefinite length: BER, not DER
        bytes.fromhex("3006040004020102"),  # an empty key
        bytes.fromhex("30060401aa0301bb"),  # another type
        bytes.fromhex("30090401aa0401bb0401cc"),  # a third part
        encode_signed_key(bytes(2049), b"x"),
        encode_signed_key(b"x", bytes(2049)),
    ],
)
def test_what_is_not_a_signed_key_is_refused(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_signed_key(wire)


def _rsa(size: int) -> tuple[bytes, Callable[[bytes], bytes]]:
    key = rsa.generate_private_key(65537, size)
    return encode_public_key(RSA, key.public_key().public_bytes(*SPKI)), lambda data: key.sign(
        data, padding.PKCS1v15(), hashes.SHA256()
    )


def _curve(kind: int, curve: ec.EllipticCurve) -> tuple[bytes, Callable[[bytes], bytes]]:
    key = ec.derive_private_key(11, curve)
    public = key.public_key()
    if kind == SECP256K1:
        data = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    else:
        data = public.public_bytes(*SPKI)
    return encode_public_key(kind, data), lambda message: key.sign(message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    "identity",
    [
        (PUBLIC, IDENTITY.sign),
        _rsa(2048),
        _curve(SECP256K1, ec.SECP256K1()),
        _curve(ECDSA, ec.SECP256R1()),
        _curve(ECDSA, ec.SECP384R1()),
    ],
    ids=["ed25519", "rsa", "secp256k1", "p256", "p384"],
)
def test_our_certificate_proves_an_identity_of_any_kind(identity: tuple[bytes, Callable[[bytes], bytes]]) -> None:
    public, sign = identity
    certificate = make_certificate(KEY, public, sign, serial=5)
    assert [extension.oid for extension in certificate.extensions] == [EXTENSION]
    assert verify_certificate(der(certificate), NOW) == public
    assert len(der(certificate)) < MAX_CERTIFICATE


def test_a_weak_rsa_identity_is_refused() -> None:
    public, sign = _rsa(1024)
    with pytest.raises(RemoteProtocolError, match="did not sign"):
        verify_certificate(der(make_certificate(KEY, public, sign, serial=5)), NOW)


def built(
    *,
    extensions: list[tuple[x509.ExtensionType, bool]] | None = None,
    years: tuple[int, int] = (2000, 2100),
    issuer: str = "a",
    signer: ec.EllipticCurvePrivateKey = KEY,
    signed_key: ec.EllipticCurvePrivateKey = KEY,
    prefix: bytes = SIGNED_PREFIX,
) -> bytes:
    """A certificate that may be wrong in one thing."""
    signature = IDENTITY.sign(prefix + signed_key.public_key().public_bytes(*SPKI))
    ours = x509.UnrecognizedExtension(EXTENSION, encode_signed_key(PUBLIC, signature))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(KEY.public_key())
        .serial_number(9)
        .not_valid_before(datetime(years[0], 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(years[1], 1, 1, tzinfo=UTC))
    )
    for extension, critical in [(ours, True)] if extensions is None else extensions:
        builder = builder.add_extension(extension, critical)
    return der(builder.sign(signer, hashes.SHA256()))


SIGNED = x509.UnrecognizedExtension(
    EXTENSION, encode_signed_key(PUBLIC, IDENTITY.sign(SIGNED_PREFIX + KEY.public_key().public_bytes(*SPKI)))
)
OTHER = ec.derive_private_key(8, ec.SECP256R1())
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")


def test_unknown_and_well_known_extensions_pass_beside_ours() -> None:
    assert verify_certificate(built(), NOW) == PUBLIC
    known = x509.BasicConstraints(ca=False, path_length=None)
    assert verify_certificate(built(extensions=[(known, True), (UNKNOWN, False), (SIGNED, False)]), NOW) == PUBLIC


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (built(years=(2000, 2001)), "not valid now"),
        (built(years=(2050, 2100)), "not valid now"),
        (built(signer=OTHER), "not signed by its own"),
        (built(issuer="b"), "cannot be read"),
        (built(signed_key=OTHER), "did not sign"),
        (built(prefix=b"libp2p-tls-handshake"), "did not sign"),
        (built(extensions=[]), "names no libp2p key"),
        (built(extensions=[(UNKNOWN, False)]), "names no libp2p key"),
        (built(extensions=[(SIGNED, False), (UNKNOWN, True)]), "critical"),
        (built(extensions=[(x509.UnrecognizedExtension(EXTENSION, b""), False)]), "SignedKey"),
        (b"", "cannot be read"),
        (b"\x30\x82\xff\xff", "cannot be read"),
        (built() + b"\0", "cannot be read"),
        (bytes(MAX_CERTIFICATE + 1), "too long"),
    ],
)
def test_a_certificate_that_proves_nothing_is_refused(certificate: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        verify_certificate(certificate, NOW)


def test_no_damaged_bit_passes_for_another_peer_or_raises_anything_else() -> None:
    whole = bytearray(built())
    passed = 0
    for position in range(len(whole) * 8):
        whole[position // 8] ^= 1 << position % 8
        with suppress(RemoteProtocolError):
            assert verify_certificate(bytes(whole), NOW) == PUBLIC, position
            passed += 1
        whole[position // 8] ^= 1 << position % 8
    assert passed == 0


def test_the_muxer_is_the_first_offered_that_the_other_side_speaks() -> None:
    offered = offer_protocols(["/a", "/yamux/1.0.0", "x" * 300])
    assert offered == [b"/a", b"/yamux/1.0.0", b"libp2p"]
    assert choose_protocol(offered, ["/yamux/1.0.0", "/a"]) == b"/a"
    assert choose_protocol(offered, ["/yamux/1.0.0"]) == b"/yamux/1.0.0"
    assert choose_protocol(offered, ["/mplex/6.7.0"]) == b"libp2p"
    assert choose_protocol([b"h2"], ["/yamux/1.0.0"]) is None
    assert choose_protocol([], ["/yamux/1.0.0"]) is None
