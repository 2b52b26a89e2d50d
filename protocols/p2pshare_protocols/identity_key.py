"""Signatures by the identity keys of libp2p, of any kind that there is (libp2p specification, "Peer Ids and Keys")."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.peerid import ECDSA, ED25519, RSA, SECP256K1, decode_public_key

MAX_IDENTITY_KEY = 2048
"""Bytes of an encoded key, and of a signature."""
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192  # what other libp2p implementations accept


def verify_signature(identity_key: bytes, signature: bytes, message: bytes, what: str) -> None:
    """Raises RemoteProtocolError unless `identity_key`, libp2p's PublicKey message, signed `message`.

    `what` names the message for the error's text.
    """
    kind, data = decode_public_key(identity_key)
    try:
        _verify(kind, data, signature, message)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        raise RemoteProtocolError(f"the peer's identity key did not sign its {what}") from None


def _verify(kind: int, data: bytes, signature: bytes, message: bytes) -> None:
    if kind == ED25519:
        Ed25519PublicKey.from_public_bytes(data).verify(signature, message)
        return
    if kind == SECP256K1:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data)
        point.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        return
    key = serialization.load_der_public_key(data)
    if kind == ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    elif kind == RSA and isinstance(key, rsa.RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    else:
        raise ValueError("the key is not of the kind that it says")
