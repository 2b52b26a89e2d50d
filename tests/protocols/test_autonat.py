"""AutoNAT's messages: as the specification writes them, bounded, and nothing but RemoteProtocolError for the rest."""

from __future__ import annotations

import pytest

from p2pshare_protocols import autonat, varint
from p2pshare_protocols.autonat import DialDataRequest, DialDataResponse, DialRequest, DialResponse, DialStatus, Status
from p2pshare_protocols.errors import RemoteProtocolError
from tests.support_golden import golden

NONCE = 0x0102030405060708
EXAMPLES = {
    "request": DialRequest(("/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/4001"), NONCE),
    "response": DialResponse(Status.OK, 1, DialStatus.OK),
    "refused": DialResponse(Status.DIAL_REFUSED),
    "data request": DialDataRequest(1, 30_000),
    "data": DialDataResponse(b"\0\0\0"),
}


def without_length(framed: bytes) -> bytes:
    length, start = varint.decode(framed)
    assert length == len(framed) - start
    return framed[start:]


@pytest.mark.parametrize("name", EXAMPLES)
def test_messages_are_those_of_the_specification(name: str) -> None:
    message = EXAMPLES[name]
    assert autonat.encode(message) == golden("autonat.md", "messages")[name]
    assert autonat.decode(without_length(autonat.encode(message))) == message


def test_the_nonce_comes_back() -> None:
    framed = autonat.encode_dial_back(NONCE)
    assert framed == golden("autonat.md", "messages")["dial back"]
    assert autonat.decode_dial_back(without_length(framed)) == NONCE


def test_an_address_that_cannot_be_read_keeps_its_place() -> None:
    inner = without_length(autonat.encode(DialRequest(("/ip4/192.0.2.1/tcp/4001",), 1)))[2:]
    strange = b"\x0a\x02\xff\x01" + inner  # two bytes that are no multiaddr
    assert autonat.decode(b"\x0a" + bytes([len(strange)]) + strange) == DialRequest(("", "/ip4/192.0.2.1/tcp/4001"), 1)


def test_only_fifty_addresses_are_read() -> None:
    many = DialRequest(("/ip4/192.0.2.1/tcp/4001",) * 60, 1)
    read = autonat.decode(without_length(autonat.encode(many)))
    assert isinstance(read, DialRequest)
    assert len(read.addresses) == autonat.MAX_ADDRESSES


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x0a\x00",  # a request without a nonce
        b"\x08\x01",  # a number where a message belongs
        b"\x0a\x05\x0a",  # cut off
        b"\x0a\x03\x10\x01\x00",  # a nonce that is a varint
        b"\x12\x02\x08\x07",  # a status that is not known
        b"\x0b",
        b"\x0a\x82\x01" + b"\x08\x01" * 65,  # too many fields
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        autonat.decode(body)
    with pytest.raises(RemoteProtocolError):
        autonat.decode_dial_back(body)
