"""What we rely on in libp2p, one test for each line of net/libp2p_edge.py; and that nothing else imports it."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from p2pshare.net import libp2p_edge

SOURCE = Path(libp2p_edge.__file__).parents[1]


def test_libp2p_is_the_version_we_looked_at() -> None:
    assert version("libp2p") == "0.8.1"


def test_identify_has_the_fields_of_the_specification() -> None:
    fields = {field.name: field.number for field in libp2p_edge.Identify.DESCRIPTOR.fields}
    expected = {
        "public_key": 1,
        "listen_addrs": 2,
        "protocols": 3,
        "observed_addr": 4,
        "protocol_version": 5,
        "agent_version": 6,
    }
    assert expected.items() <= fields.items()


def test_bytes_that_are_no_protobuf_raise_decode_error() -> None:
    with pytest.raises(libp2p_edge.DecodeError):
        libp2p_edge.Identify().ParseFromString(b"\xff\xff\xff")


def test_a_text_that_is_not_utf8_is_given_as_bytes() -> None:
    message = libp2p_edge.Identify()
    message.ParseFromString(b"\x1a\x02\xff\xfe")
    assert list(message.protocols) == [b"\xff\xfe"]


def test_only_the_edge_imports_libp2p() -> None:
    importing = re.compile(r"^\s*(?:from|import) (?:libp2p|multiaddr|google)\b", re.M)
    found = [str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if importing.search(path.read_text())]
    assert found == ["net/libp2p_edge.py"]
