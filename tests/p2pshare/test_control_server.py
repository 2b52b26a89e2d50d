"""The control socket with real sockets: what each framing gets, and what a bad client cannot do."""

import os
import stat

import pytest
import trio

from p2pshare.control import server as server_module
from p2pshare.control.connection import MAX_IN_FLIGHT, MAX_STREAMS
from p2pshare.control.methods import METHODS
from p2pshare.control.server import MAX_CONNECTIONS, open_server
from p2pshare.errors import Exists
from p2pshare_cli.client import Client
from p2pshare_protocols.control import Framing, cancel, encode
from tests.support_control import FakeHost, connect, running_server
from tests.support_until import until

BOTH = pytest.mark.parametrize("framing", [Framing.JSON, Framing.MSGPACK])


@BOTH
async def test_a_call_and_its_answer(tmp_path, framing):
    async with running_server(tmp_path) as server:
        client = await connect(server, framing)
        await client.call(1, "ping")
        assert await client.receive() == {
            "jsonrpc": "2.0",
            "id": 1,
            "result": {"version": "1", "pid": os.getpid(), "state": "ready"},
        }
        await client.call("two", "share.start", paths=["/x"], tags=["raft"])
        answer = await client.receive()
        assert answer["id"] == "two"
        assert answer["result"]["called"] == "share_start"
        assert answer["result"]["hash"] == "sha256"
        assert server.host.fake.calls[0][1]["tags"] == ["raft"]


async def test_printf_into_nc_is_answered_even_without_a_newline(tmp_path):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.stream.send_all(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n{"id":2,"method":"ping"}')
        await client.stream.send_eof()
        answers = await client.receive_all()
        assert sorted(answer["id"] for answer in answers) == [1, 2]


@BOTH
async def test_pipelined_requests_are_answered_as_they_are_done(tmp_path, framing):
    async with running_server(tmp_path) as server:
        client = await connect(server, framing)
        await client.call(1, "show", link="x")
        await client.call(2, "ping")
        assert (await client.receive())["id"] == 2
        server.host.fake.gate.set()
        assert (await client.receive())["result"] == {"cid": "x"}


@BOTH
async def test_a_stream_and_its_end(tmp_path, framing):
    async with running_server(tmp_path) as server:
        client = await connect(server, framing)
        await client.call(5, "jobs.watch", job=7)
        messages = [await client.receive() for _ in range(4)]
        assert [message["params"]["event"]["bytes"] for message in messages[:3]] == [0, 1, 2]
        assert {message["params"]["id"] for message in messages[:3]} == {5}
        assert messages[3] == {"jsonrpc": "2.0", "id": 5, "result": {"event": "done", "job": 7}}
        await client.call(6, "jobs.watch", job=13)
        messages = [await client.receive() for _ in range(4)]
        assert messages[3]["error"]["data"] == {"kind": "not-found", "hint": "", "retryable": False}


@BOTH
async def test_a_stream_is_cancelled_by_a_notification_and_by_closing(tmp_path, framing):
    async with running_server(tmp_path) as server:
        client = await connect(server, framing)
        await client.call(1, "events", topics=["jobs"])
        assert (await client.receive())["params"]["event"]["seq"] == 1
        await client.send(cancel(1))
        assert (await client.receive())["error"]["data"]["kind"] == "cancelled"
        assert server.host.fake.cancelled == ["events"]
        await client.call(2, "show", link="x")
        await server.host.fake.started.wait()
        await client.stream.aclose()
        await until(lambda: server.host.fake.cancelled == ["events", "show"])


@pytest.mark.parametrize(
    ("method", "params", "code", "kind"),
    [
        ("nope", {}, -32601, "usage"),
        ("jobs.show", {}, -32602, "usage"),
        ("jobs.show", {"job": "7"}, -32602, "usage"),
        ("jobs.show", {"job": 7, "x": 1}, -32602, "usage"),
        ("jobs.show", {"job": 7}, -32000, "not-found"),
        ("jobs.pause", {"job": 7}, -32000, "not-found"),
        ("jobs.clear", {}, -32603, "internal"),
    ],
)
async def test_errors_have_a_code_a_kind_and_a_sentence(tmp_path, method, params, code, kind, caplog):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.call(1, method, **params)
        error = (await client.receive())["error"]
        assert (error["code"], error["data"]["kind"]) == (code, kind)
        assert error["message"]
        assert ("a defect" in caplog.text) == (kind == "internal")
        await client.call(2, "ping")
        assert (await client.receive())["id"] == 2


@pytest.mark.parametrize("bad", [b"{nonsense}", b'{"a":' + b"[" * 5000 + b"}", b"[1]", b'{"id":1,"method":1}'])
async def test_a_bad_line_is_answered_and_the_next_one_too(tmp_path, bad):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.stream.send_all(b"{}\n" + bad + b'\n{"id":2,"method":"ping"}\n')
        assert (await client.receive())["error"]["code"] == -32600
        assert (await client.receive())["error"]["code"] in (-32700, -32600)
        assert (await client.receive())["id"] == 2


@pytest.mark.parametrize("framing", [Framing.JSON, Framing.MSGPACK])
async def test_a_request_over_a_mebibyte_ends_the_connection_and_no_other(tmp_path, framing):
    async with running_server(tmp_path) as server:
        client, other = await connect(server, framing), await connect(server, framing)
        data = encode(framing, {"id": 1, "method": "ping", "params": {"x": "y" * (1 << 20)}})
        await client.stream.send_all(data)
        answers = await client.receive_all()
        assert [answer["error"]["code"] for answer in answers] == [-32600]
        await other.call(1, "ping")
        assert (await other.receive())["id"] == 1


@pytest.mark.parametrize("first", [b"\x16\x03\x01", b"\n", b"hello\n", b"\x00" * 100])
async def test_any_other_first_byte_is_closed_at_once(tmp_path, first):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.stream.send_all(first)
        with pytest.raises(trio.BrokenResourceError):
            assert await client.receive() is None
            raise trio.BrokenResourceError  # a clean end is as good as a reset


async def test_more_streams_than_allowed_are_refused_and_plain_requests_wait_for_room(tmp_path):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        for number in range(MAX_STREAMS + 1):
            await client.call(f"s{number}", "events", topics=["jobs"])
        messages = [await client.receive() for _ in range(MAX_STREAMS + 1)]
        refused = [message for message in messages if "error" in message]
        assert [message["error"]["data"]["kind"] for message in refused] == ["blocked"]
        for number in range(2 * MAX_IN_FLIGHT):
            await client.call(number, "show", link="x")
        server.host.fake.gate.set()
        done = set()
        while len(done) < 2 * MAX_IN_FLIGHT:
            message = await client.receive()
            if isinstance(message.get("id"), int):
                done.add(message["id"])


async def test_an_id_in_flight_cannot_be_used_twice(tmp_path):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.call(1, "show", link="x")
        await client.call(1, "ping")
        assert "in flight" in (await client.receive())["error"]["message"]
        server.host.fake.gate.set()
        assert (await client.receive())["result"] == {"cid": "x"}


async def test_a_notification_gets_no_answer(tmp_path):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.stream.send_all(b'{"method":"peers.list"}\n{"id":1,"method":"ping"}\n')
        assert (await client.receive())["id"] == 1
        await client.stream.send_eof()
        assert await client.receive() is None
        assert server.host.fake.calls == [("peers_list", {})]


async def test_a_client_that_does_not_read_is_dropped_and_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr("p2pshare.control.channel.SEND_TIMEOUT", 0.05)
    async with running_server(tmp_path) as server:
        deaf, other = await connect(server), await connect(server)
        await deaf.call(1, "events")
        await other.call(1, "ping")
        assert (await other.receive())["id"] == 1
        await until(lambda: server.host.fake.cancelled == ["events"])


async def test_connections_are_counted(tmp_path):
    async with running_server(tmp_path) as server:
        clients = [await connect(server) for _ in range(MAX_CONNECTIONS)]
        for client in clients:
            await client.call(1, "ping")
            assert (await client.receive())["id"] == 1
        extra = await connect(server)
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            await extra.call(1, "ping")
            assert await extra.receive() is not None
        await clients[0].stream.aclose()
        await until(lambda: server._count < MAX_CONNECTIONS)
        late = await connect(server)
        await late.call(1, "ping")
        assert (await late.receive())["id"] == 1


async def test_another_users_connection_is_refused(tmp_path, monkeypatch):
    async with running_server(tmp_path) as server:
        monkeypatch.setattr(server_module.struct, "unpack", lambda *_: (1, 65534, 1))
        client = await connect(server)
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            await client.call(1, "ping")
            assert await client.receive() is not None


async def test_leaving_cancels_streams_with_a_last_answer_and_takes_the_socket_away(tmp_path):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.call(1, "events", topics=["jobs"])
        await client.receive()
    assert (await client.receive())["error"]["data"]["kind"] == "cancelled"
    assert await client.receive() is None
    assert os.listdir(tmp_path) == []


async def test_the_answer_to_daemon_stop_arrives(tmp_path):
    host = FakeHost()
    async with running_server(tmp_path, host) as server:
        client = await connect(server)
        await client.call(1, "daemon.stop")
        await host.stopped.wait()
    assert (await client.receive())["result"] == {}


async def test_the_socket_is_private_and_a_dead_one_is_replaced(tmp_path):
    path = tmp_path / "control.sock"
    stale = trio.socket.socket(trio.socket.AF_UNIX)
    await stale.bind(str(path))
    stale.close()
    async with running_server(tmp_path) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client = await connect(server)
        await client.call(1, "ping")
        assert (await client.receive())["id"] == 1


async def test_what_is_no_socket_is_not_replaced(tmp_path):
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(Exists, match="not a socket"):
        async with open_server(str(path), FakeHost()):
            pass
    assert path.read_text() == "precious"


async def test_a_home_too_deep_for_a_socket_address(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with running_server(deep) as server:
        descriptor = os.open(deep, os.O_PATH)
        server.path = f"/proc/self/fd/{descriptor}/control.sock"
        client = await connect(server)
        os.close(descriptor)
        await client.call(1, "ping")
        assert (await client.receive())["id"] == 1
    assert os.listdir(deep) == []


async def test_discover_lists_every_method_and_every_kind(tmp_path):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.call(1, "rpc.discover")
        answer = (await client.receive())["result"]
        assert [method["name"] for method in answer["methods"]] == list(METHODS)
        assert answer["errors"]["not-found"]["exit_code"] == 5


async def test_status_before_the_node_is_there(tmp_path):
    host = FakeHost()
    host.state = "starting"
    async with running_server(tmp_path, host) as server:
        client = await connect(server)
        await client.call(1, "status")
        assert (await client.receive())["result"]["state"] == "starting"
        host.state = "ready"
        await client.call(2, "status")
        assert (await client.receive())["result"]["peer_id"] == "12D3KooWFake"


async def test_a_path_that_is_not_utf8_goes_through_the_commands_own_client(tmp_path):
    path = os.fsdecode(b"/tmp/caf\xe9")
    async with running_server(tmp_path) as server:

        def call():
            with Client(server.path, timeout=10) as client:
                return client.call("shares.show", target=path)

        assert await trio.to_thread.run_sync(call) == {"called": "shares_show", "target": path}
