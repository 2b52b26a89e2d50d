"""The control socket's bytes: the golden ones of protocols/control.md, and hostile ones."""

import json
from pathlib import Path

import msgpack
import pytest

from p2pshare_protocols import control
from p2pshare_protocols.control import Framing, InvalidRequest, MalformedMessage, MessageReader
from p2pshare_protocols.errors import RemoteProtocolError

SPECIFICATION = Path(__file__).parents[2] / "protocols" / "control.md"

GOLDEN = [
    (control.request(1, "status", {}), '{"jsonrpc":"2.0","id":1,"method":"status"}',
     "83a76a736f6e727063a3322e30a2696401a66d6574686f64a6737461747573"),
    (control.cancel(7), '{"jsonrpc":"2.0","method":"cancel","params":{"id":7}}',
     "83a76a736f6e727063a3322e30a66d6574686f64a663616e63656ca6706172616d7381a2696407"),
    (control.result(1, {"pid": 5}), '{"jsonrpc":"2.0","id":1,"result":{"pid":5}}',
     "83a76a736f6e727063a3322e30a2696401a6726573756c7481a370696405"),
    (control.stream_event(2, {"event": "progress", "bytes": 9}),
     '{"jsonrpc":"2.0","method":"stream","params":{"id":2,"event":{"event":"progress","bytes":9}}}',
     ("83a76a736f6e727063a3322e30a66d6574686f64a673747265616da6706172616d7382a2696402a56576656e7482a56576656e74"
      "a870726f6772657373a5627974657309")),
    (control.failure(3, -32000, "no such job", kind="not-found"),
     ('{"jsonrpc":"2.0","id":3,"error":{"code":-32000,"message":"no such job",'
      '"data":{"kind":"not-found","hint":"","retryable":false}}}'),
     ("83a76a736f6e727063a3322e30a2696403a56572726f7283a4636f6465d18300a76d657373616765ab6e6f2073756368206a6f62"
      "a46461746183a46b696e64a96e6f742d666f756e64a468696e74a0a9726574727961626c65c2")),
]  # fmt: skip


def read_all(framing, data, **bounds):
    reader = MessageReader(framing, **bounds)
    reader.feed(data)
    return list(reader.messages())


@pytest.mark.parametrize(("message", "line", "packed"), GOLDEN)
def test_golden_bytes_are_written_and_read_and_stand_in_the_specification(message, line, packed):
    assert control.encode(Framing.JSON, message) == line.encode() + b"\n"
    assert control.encode(Framing.MSGPACK, message).hex() == packed
    assert read_all(Framing.JSON, line.encode() + b"\n") == [message]
    assert read_all(Framing.MSGPACK, bytes.fromhex(packed)) == [message]
    text = "".join(SPECIFICATION.read_text().split())
    assert line.replace(" ", "") in text
    assert packed in text


@pytest.mark.parametrize("framing", [Framing.JSON, Framing.MSGPACK])
def test_messages_in_any_cut_are_the_same(framing):
    wanted = [control.request(n, "ping", {"text": "ä" * n}) for n in range(1, 40)]
    data = b"".join(control.encode(framing, message) for message in wanted)
    for size in (1, 7, 1000):
        reader = MessageReader(framing)
        got = []
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size])
            got += reader.messages()
        assert got == wanted


def test_the_first_byte_tells_the_framing():
    assert control.framing_of(ord("{")) is Framing.JSON
    assert {control.framing_of(b) for b in [*range(0x80, 0x90), 0xDE, 0xDF]} == {Framing.MSGPACK}
    assert {control.framing_of(b) for b in b"GPDZ"} == {Framing.HTTP}
    for first in b" [\n\x00a\x90\xff\x16":
        with pytest.raises(RemoteProtocolError):
            control.framing_of(first)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{]",
        b"[]",
        b"null",
        b"1",
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
        b"[" * 200_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_a_bad_line_costs_that_line_only(line):
    reader = MessageReader(Framing.JSON)
    reader.feed(line + b'\n{"a":1}\n')
    with pytest.raises(MalformedMessage):
        list(reader.messages())
    assert list(reader.messages()) == [{"a": 1}]


@pytest.mark.parametrize("framing", [Framing.JSON, Framing.MSGPACK])
@pytest.mark.parametrize("size", [1000, 2000, 100_000])
def test_a_message_over_the_bound_is_final(framing, size):
    data = control.encode(framing, {"a": ["x" * 100] * (size // 100)})
    reader = MessageReader(framing, max_message=1000)
    with pytest.raises(RemoteProtocolError) as caught:
        for start in range(0, len(data), 500):
            reader.feed(data[start : start + 500])
            list(reader.messages())
    assert not isinstance(caught.value, MalformedMessage)


def test_a_message_of_exactly_the_bound_passes():
    message = {"a": "x" * 992}
    assert len(json.dumps(message)) == 1001  # with the one space that encode leaves out
    assert read_all(Framing.JSON, control.encode(Framing.JSON, message), max_message=1000) == [message]


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x90",
        b"\x81\x01\x02",  # a key that is no text
        b"\xdf\xff\xff\xff\xff",  # four thousand million entries announced
        b"\x81\xa1a\xdd\x7f\xff\xff\xff",
        b"\x81\xa1a" + b"\x91" * 2000,
        b"\x81\xa1a\xc7\x05\x01hello",  # an extension type
    ],
)
def test_bytes_that_are_no_message_are_final(data):
    with pytest.raises(RemoteProtocolError):
        read_all(Framing.MSGPACK, data + b"\x80")


def test_binary_values_and_deep_ones_cost_that_message_only():
    deep: object = 1
    for _ in range(100):
        deep = [deep]
    for value in (b"bytes", deep):
        reader = MessageReader(Framing.MSGPACK)
        reader.feed(msgpack.packb({"a": value}) + msgpack.packb({"a": 1}))
        with pytest.raises(MalformedMessage):
            list(reader.messages())
        assert list(reader.messages()) == [{"a": 1}]


@pytest.mark.parametrize("framing", [Framing.JSON, Framing.MSGPACK])
def test_a_path_that_is_not_utf8_survives(framing):
    path = b"/tmp/caf\xe9".decode("utf-8", "surrogateescape")
    assert read_all(framing, control.encode(framing, {"path": path})) == [{"path": path}]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"id": 1}, control.INVALID_REQUEST),
        ({"id": 1, "method": 5}, control.INVALID_REQUEST),
        ({"id": 1, "method": "x", "jsonrpc": "1.0"}, control.INVALID_REQUEST),
        ({"id": True, "method": "x"}, control.INVALID_REQUEST),
        ({"id": [1], "method": "x"}, control.INVALID_REQUEST),
        ({"id": "x" * 300, "method": "x"}, control.INVALID_REQUEST),
        ({"id": 2**70, "method": "x"}, control.INVALID_REQUEST),
        ({"id": 1, "method": "x", "extra": 1}, control.INVALID_REQUEST),
        ({"id": 1, "method": "x", "params": [1]}, control.INVALID_PARAMS),
    ],
)
def test_what_is_no_request(message, code):
    with pytest.raises(InvalidRequest) as caught:
        control.parse_request(message)
    assert caught.value.code == code


def test_replies_are_told_apart():
    read = control.parse_reply
    assert read(control.result(1, [1])) == control.Result(1, [1])
    assert read(control.stream_event("a", {"x": 1})) == control.StreamEvent("a", {"x": 1})
    failed = read(control.failure(2, -32000, "gone", kind="not-found", hint="look"))
    assert failed == control.Failure(2, -32000, "gone", "not-found", "look", False, 5)
    newer = read({"id": 1, "error": {"code": -32000, "message": "m", "data": {"kind": "novel", "retryable": True}}})
    assert (newer.kind, newer.exit_code, newer.retryable) == ("novel", 1, True)
    for bad in ({}, {"id": 1}, {"method": "stream"}, {"id": 1, "error": "text"}):
        with pytest.raises(RemoteProtocolError):
            read(bad)
