"""Who a peer is, inside its TLS certificate: libp2p's extension 1.3.6.1.4.1.53594.1.1. See protocols/tls.md.

Source: the libp2p TLS specification, tls/tls.md, "Peer Authentication".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.identity_key import MAX_IDENTITY_KEY, verify_signature

TLS = "/tls/1.0.0"
ALPN = "libp2p"
SIGNED_PREFIX = b"libp2p-tls-handshake:"
EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
MAX_CERTIFICATE = 16384
"""Bytes; with an RSA identity of 8192 bits, the longest known, it has 4 KiB."""
NOT_BEFORE = datetime(1975, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(4096, 1, 1, tzinfo=UTC)
"""Our certificates live as long as the process: dates that no wrong clock misses, those of the test vectors."""
MAX_ALPN = 255  # bytes of one name (RFC 7301)


def encode_signed_key(identity_key: bytes, signature: bytes) -> bytes:
    """DER of SignedKey, SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }."""
    return _der(0x30, _der(0x04, identity_key) + _der(0x04, signature))


def decode_signed_key(data: bytes) -> tuple[bytes, bytes]:
    """(identity key, signature). Raises RemoteProtocolError for anything but the DER of a SignedKey."""
    whole, rest = _read(0x30, data)
    identity_key, tail = _read(0x04, whole)
    signature, end = _read(0x04, tail)
    if rest or end or not identity_key or not signature:
        raise RemoteProtocolError("a SignedKey is not two octet strings")
    if len(identity_key) > MAX_IDENTITY_KEY or len(signature) > MAX_IDENTITY_KEY:
        raise RemoteProtocolError("a SignedKey is too long")
    return identity_key, signature


def make_certificate(
    key: ec.EllipticCurvePrivateKey, identity_key: bytes, sign: Callable[[bytes], bytes], serial: int
) -> x509.Certificate:
    """Our certificate, signed by the fresh `key`. `sign` is the signature of the identity key, 0 < serial < 2^159.

    The extension is the only one: js-libp2p looks at the first alone, and others serve nothing here.
    """
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "libp2p.io")])
    signed = encode_signed_key(identity_key, sign(SIGNED_PREFIX + _subject(key.public_key())))
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.UnrecognizedExtension(EXTENSION, signed), critical=False)
        .sign(key, hashes.SHA256())
    )


def verify_certificate(certificate: bytes, now: float) -> bytes:
    """The identity key (libp2p's PublicKey message) that a peer's certificate, DER, proves. `now`: Unix seconds.

    Raises RemoteProtocolError for one that is expired, not signed by its own key, without the extension, with an
    unknown critical one, or whose key the identity did not sign.
    """
    if len(certificate) > MAX_CERTIFICATE:
        raise RemoteProtocolError("a certificate is too long")
    try:
        read = x509.load_der_x509_certificate(certificate)
        if not certificate.endswith(b"\0" + read.signature):  # BIT STRING: no unused bits, nothing behind it
            raise RemoteProtocolError("a certificate's signature is not written as DER wants it")
        return _verify(read, now)
    except RemoteProtocolError:
        raise
    except InvalidSignature:
        raise RemoteProtocolError("a certificate is not signed by its own key") from None
    except Exception as error:  # noqa: BLE001
        # Reading X.509 raises half a dozen kinds of errors, some undocumented, and a stranger chooses the bytes.
        raise RemoteProtocolError(f"a certificate cannot be read: {error}") from None


def _verify(certificate: x509.Certificate, now: float) -> bytes:
    if not certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp():
        raise RemoteProtocolError("a certificate is not valid now")
    certificate.verify_directly_issued_by(certificate)
    signed: bytes | None = None
    for extension in certificate.extensions:
        if extension.oid == EXTENSION and isinstance(extension.value, x509.UnrecognizedExtension):
            signed = extension.value.value
        elif extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise RemoteProtocolError("a certificate has a critical extension that is not known")
    if signed is None:
        raise RemoteProtocolError("a certificate names no libp2p key")
    identity_key, signature = decode_signed_key(signed)
    subject = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    verify_signature(identity_key, signature, SIGNED_PREFIX + subject, "certificate's key")
    return identity_key


def offer_protocols(muxers: Sequence[str]) -> list[bytes]:
    """What the side that dialled puts into ALPN: its muxers, the preferred one first, then libp2p."""
    return [name.encode() for name in (*muxers, ALPN) if len(name.encode()) <= MAX_ALPN]


def choose_protocol(offered: Sequence[bytes], muxers: Sequence[str]) -> bytes | None:
    """The answer of the side that was dialled: the first offered muxer that it speaks, else libp2p, else None."""
    ours = {name.encode() for name in muxers}
    muxer = next((name for name in offered if name in ours), None)
    if muxer is None and ALPN.encode() in offered:
        return ALPN.encode()
    return muxer


def _subject(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _der(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def _read(tag: int, data: bytes) -> tuple[bytes, bytes]:
    """The value of the DER element in front, of at most 65535 bytes, and what follows it."""
    if len(data) < 2 or data[0] != tag:
        raise RemoteProtocolError("a SignedKey is not two octet strings")
    size, at = data[1], 2
    if size & 0x80:
        count = size & 0x7F
        at += count
        size = int.from_bytes(data[2:at], "big")
        if count not in (1, 2) or size < (0x80 if count == 1 else 0x100):
            raise RemoteProtocolError("a SignedKey is not encoded as DER")
    if at + size > len(data):
        raise RemoteProtocolError("a SignedKey ends before its end")
    return data[at : at + size], data[at + size :]
