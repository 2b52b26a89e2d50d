"""The Noise handshake: its bytes, an independent implementation, and everything a liar can do to it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from noise.connection import Keypair, NoiseConnection

from p2pshare_protocols.errors import LocalProtocolError, RemoteProtocolError
from p2pshare_protocols.noise import MAX_HANDSHAKE, Handshake, Local, Secured
from p2pshare_protocols.noise_cipher import NOISE, NOISE_AESGCM, SUITES, open_records, seal_into, sealed_size
from p2pshare_protocols.noise_payload import (
    SIGNED_PREFIX,
    Payload,
    choose_muxer,
    decode_payload,
    encode_payload,
    verify_identity,
)
from p2pshare_protocols.peerid import ECDSA, ED25519, RSA, SECP256K1, encode_public_key
from tests.support_golden import golden

YAMUX = "/yamux/1.0.0"
both_suites = pytest.mark.parametrize("suite", [NOISE, NOISE_AESGCM])


def side(suite: str, *, initiator: bool, muxers: tuple[str, ...] = (YAMUX,), **changes: object) -> Handshake:
    one, two, three = (1, 3, 5) if initiator else (2, 4, 6)
    identity = Ed25519PrivateKey.from_private_bytes(bytes([one]) * 32)
    fields: dict[str, object] = {
        "identity_key": encode_public_key(ED25519, identity.public_key().public_bytes_raw()),
        "sign": identity.sign,
        "static": bytes([two]) * 32,
        "ephemeral": bytes([three]) * 32,
        "muxers": muxers,
    }
    return Handshake(suite, initiator=initiator, local=Local(**{**fields, **changes}))  # type: ignore[arg-type]


def converse(left: Handshake, right: Handshake) -> list[bytes]:
    """Run to the end; all messages in order."""
    messages = []
    for sender, receiver in ((left, right), (right, left), (left, right)):
        messages.append(sender.data_to_send())
        receiver.receive(messages[-1])
    return messages


def secured(suite: str) -> tuple[Secured, Secured]:
    left, right = side(suite, initiator=True), side(suite, initiator=False)
    converse(left, right)
    assert left.secured is not None
    assert right.secured is not None
    return left.secured, right.secured


def seal(secured: Secured, data: bytes) -> bytearray:
    out = bytearray(sealed_size(len(data)))
    assert seal_into(secured.send, [memoryview(data)], memoryview(out)) == len(out)
    return out


@both_suites
def test_the_bytes_are_those_of_the_specification(suite: str) -> None:
    left = side(suite, initiator=True, muxers=("/a/1.0.0", YAMUX))
    right = side(suite, initiator=False)
    expected = golden("noise.md", suite)
    messages = converse(left, right)
    assert messages == [expected["message 1"], expected["message 2"], expected["message 3"]]
    assert left.secured is not None
    assert right.secured is not None
    assert left.secured.muxer == right.secured.muxer == YAMUX
    assert left.secured.handshake_hash == right.secured.handshake_hash == expected["handshake hash"]
    assert seal(left.secured, b"hello") == expected["record hello"]
    assert seal(right.secured, b"world") == expected["record world"]


@both_suites
@pytest.mark.parametrize("we_initiate", [True, False])
def test_an_independent_implementation_understands_us(suite: str, we_initiate: bool) -> None:
    other = NoiseConnection.from_name(SUITES[suite])
    static = bytes([9]) * 32
    other.set_keypair_from_private_bytes(Keypair.STATIC, static)
    (other.set_as_responder if we_initiate else other.set_as_initiator)()
    other.start_handshake()
    identity = Ed25519PrivateKey.from_private_bytes(bytes([8]) * 32)
    static_public = other.noise_protocol.keypairs["s"].public_bytes
    key = encode_public_key(ED25519, identity.public_key().public_bytes_raw())
    payload = encode_payload(Payload(key, identity.sign(SIGNED_PREFIX + static_public)))
    ours = side(suite, initiator=we_initiate)

    def framed(message: bytes) -> bytes:
        return len(message).to_bytes(2, "big") + message

    if we_initiate:
        other.read_message(ours.data_to_send()[2:])
        ours.receive(framed(bytes(other.write_message(payload))))
        other.read_message(ours.data_to_send()[2:])
    else:
        ours.receive(framed(bytes(other.write_message(b""))))
        other.read_message(ours.data_to_send()[2:])
        ours.receive(framed(bytes(other.write_message(payload))))
    assert ours.secured is not None
    assert ours.secured.identity_key == key
    assert other.decrypt(bytes(seal(ours.secured, b"to them"))[2:]) == b"to them"
    record = bytearray(framed(other.encrypt(b"to us")))
    views, used = open_records(ours.secured.receive, memoryview(record))
    assert (b"".join(views), used) == (b"to us", len(record))


@both_suites
def test_bytes_may_come_one_by_one_and_with_more_behind(suite: str) -> None:
    left, right = side(suite, initiator=True), side(suite, initiator=False)
    for byte in left.data_to_send():
        right.receive(bytes([byte]))
    left.receive(right.data_to_send())
    for byte in (last := left.data_to_send())[:-1]:
        right.receive(bytes([byte]))
        assert right.secured is None
    right.receive(last[-1:] + b"and more")
    assert right.secured is not None
    assert right.secured.rest == b"and more"
    with pytest.raises(LocalProtocolError):
        right.receive(b"x")


@both_suites
@pytest.mark.parametrize("message", [0, 1, 2])
def test_a_flipped_bit_anywhere_ends_the_handshake(suite: str, message: int) -> None:
    length = len(converse(side(suite, initiator=True), side(suite, initiator=False))[message])
    for position in range(2, length, 1 if message == 0 else 7):
        left, right = side(suite, initiator=True), side(suite, initiator=False)
        sides = [(left, right), (right, left), (left, right)]
        try:
            for number, (sender, receiver) in enumerate(sides):
                data = bytearray(sender.data_to_send())
                if number == message:
                    data[position] ^= 1
                receiver.receive(bytes(data))
        except RemoteProtocolError:
            continue
        raise AssertionError(f"byte {position} of message {message} was changed unseen")


@both_suites
def test_the_end_inside_the_handshake_is_an_error(suite: str) -> None:
    left = side(suite, initiator=True)
    with pytest.raises(RemoteProtocolError, match="ended inside"):
        left.receive_eof()


def test_messages_that_are_too_long_or_short_are_refused_at_once() -> None:
    for size in (MAX_HANDSHAKE + 1, 65535):
        with pytest.raises(RemoteProtocolError):
            side(NOISE, initiator=False).receive(size.to_bytes(2, "big"))
    with pytest.raises(RemoteProtocolError, match="too short"):
        side(NOISE, initiator=False).receive(b"\0\x1f" + bytes(31))
    with pytest.raises(RemoteProtocolError, match="too short"):
        side(NOISE, initiator=True).receive(b"\0\x5f" + bytes(95))


def test_a_key_of_low_order_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        side(NOISE, initiator=False).receive(b"\0\x20" + bytes(32))


def test_a_peer_of_another_suite_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        converse(side(NOISE, initiator=True), side(NOISE_AESGCM, initiator=False))


def test_a_signature_of_another_key_is_refused() -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    with pytest.raises(RemoteProtocolError, match="did not sign"):
        converse(side(NOISE, initiator=True, sign=stranger.sign), side(NOISE, initiator=False))
    with pytest.raises(RemoteProtocolError, match="did not sign"):
        converse(side(NOISE, initiator=True), side(NOISE, initiator=False, sign=stranger.sign))


STATIC = bytes(range(32))


def _foreign(kind: int) -> tuple[bytes, bytes]:
    message = SIGNED_PREFIX + STATIC
    if kind == RSA:
        key = rsa.generate_private_key(65537, 2048)
        der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return encode_public_key(RSA, der), key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    curve = ec.generate_private_key(ec.SECP256K1() if kind == SECP256K1 else ec.SECP256R1())
    public = curve.public_key()
    data = (
        public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        if kind == SECP256K1
        else public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return encode_public_key(kind, data), curve.sign(message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("kind", [RSA, SECP256K1, ECDSA])
def test_identities_of_other_kinds_are_verified(kind: int) -> None:
    key, signature = _foreign(kind)
    verify_identity(Payload(key, signature), STATIC)
    for bad in (Payload(key, signature[:-1]), Payload(key, b"x"), Payload(key[:-1] + b"\x00", signature)):
        with pytest.raises(RemoteProtocolError):
            verify_identity(bad, STATIC)
    with pytest.raises(RemoteProtocolError):
        verify_identity(Payload(key, signature), bytes(32))


def test_payloads() -> None:
    payload = Payload(b"key", b"signature", ("/a", "/b"))
    assert decode_payload(encode_payload(payload)) == payload
    assert decode_payload(encode_payload(payload) + b"\x38\x01\x49" + bytes(8)) == payload  # unknown fields
    for bad in (b"", b"\x0a\x01k", b"\x0a\x05k", b"\x0b", b"\xff" * 12, b"\x0a\x01k\x12\x01s\x22\x02\x12\x05"):
        with pytest.raises(RemoteProtocolError):
            decode_payload(bad)
    with pytest.raises(RemoteProtocolError, match="too long"):
        decode_payload(encode_payload(Payload(bytes(5000), b"s")))


def test_both_sides_choose_the_same_muxer() -> None:
    assert choose_muxer(["/a", "/b"], ["/b", "/a"]) == "/a"
    assert choose_muxer(["/a"], ["/b"]) is None
    assert choose_muxer([], ["/b"]) is None
