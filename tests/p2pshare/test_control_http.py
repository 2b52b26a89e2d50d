"""HTTP on the control socket, with the standard library's client and with raw bytes."""

import contextlib
import http.client
import json
import socket

import pytest
import trio

from p2pshare_protocols.control import Framing
from tests.support_control import connect, running_server


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("p2pshare", timeout=10)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


async def ask(server, *requests):
    """Answers to (verb, target, body, headers) on one kept connection: [(status, type, body)…]."""

    def talk():
        connection = UnixHTTP(server.path)
        answers = []
        for verb, target, body, headers in requests:
            connection.request(verb, target, body, headers)
            response = connection.getresponse()
            answers.append((response.status, response.getheader("Content-Type"), response.read()))
        connection.close()
        return answers

    return await trio.to_thread.run_sync(talk)


async def test_get_and_post_on_one_connection(tmp_path):
    async with running_server(tmp_path) as server:
        answers = await ask(
            server,
            ("GET", "/v1/status", None, {}),
            ("GET", "/v1/jobs/list?states=running&states=done", None, {}),
            ("POST", "/v1/share.start", b'{"paths":["/x"]}', {}),
            ("GET", "/v1/daemon.log?lines=3", None, {}),
            ("GET", "/v1/jobs.list?state=running", None, {}),
        )
        assert [(status, kind) for status, kind, _ in answers] == [(200, "application/json")] * 5
        assert json.loads(answers[0][2])["state"] == "ready"
        assert json.loads(answers[1][2])["states"] == ["running", "done"]
        assert json.loads(answers[2][2])["paths"] == ["/x"]
        assert len(json.loads(answers[3][2])["lines"]) == 3
        assert json.loads(answers[4][2])["states"] == ["running"]


@pytest.mark.parametrize(
    ("verb", "target", "body", "headers", "status", "kind"),
    [
        ("GET", "/v1/nope", None, {}, 404, "usage"),
        ("GET", "/v2/status", None, {}, 404, "not-found"),
        ("GET", "/v1/jobs.show", None, {}, 400, "usage"),
        ("GET", "/v1/jobs.show?job=x", None, {}, 400, "usage"),
        ("GET", "/v1/jobs.show?job=7", None, {}, 404, "not-found"),
        ("GET", "/v1/jobs.clear", None, {}, 405, "usage"),
        ("POST", "/v1/jobs.clear", None, {}, 500, "internal"),
        ("DELETE", "/v1/status", None, {}, 405, "usage"),
        ("POST", "/v1/ping", b"[]", {}, 400, "usage"),
        ("POST", "/v1/ping", b"{", {}, 400, "usage"),
        ("POST", "/v1/ping", b"[" * 100_000, {}, 400, "usage"),
        ("GET", "/v1/status", None, {"Origin": "http://example.com"}, 403, "blocked"),
        ("GET", "/v1/ping?" + "a=1&" * 3000, None, {}, 400, "usage"),
    ],
)
async def test_refusals_have_a_status_and_the_error_object(tmp_path, verb, target, body, headers, status, kind):
    async with running_server(tmp_path) as server:
        answers = await ask(server, (verb, target, body, headers), ("GET", "/v1/ping", None, {}))
        assert answers[0][0] == status
        error = json.loads(answers[0][2])
        assert error["data"]["kind"] == kind
        assert error["message"]
        assert answers[1][0] == 200


async def test_a_stream_is_lines_of_json(tmp_path):
    async with running_server(tmp_path) as server:
        answers = await ask(
            server, ("GET", "/v1/jobs.watch?job=7", None, {}), ("GET", "/v1/jobs/watch?job=13", None, {})
        )
        good, bad = ([json.loads(line) for line in body.splitlines()] for _, _, body in answers)
        assert answers[0][:2] == (200, "application/x-ndjson")
        assert [event.get("bytes") for event in good] == [0, 1, 2, None]
        assert good[-1] == {"event": "done", "job": 7}
        assert bad[-1] == {
            "event": "error",
            "kind": "not-found",
            "message": "the job's own error",
            "hint": "",
            "retryable": False,
        }


async def test_a_stream_ends_when_the_client_goes_and_when_the_server_does(tmp_path):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.stream.send_all(b"GET /v1/events?topics=jobs HTTP/1.1\r\nHost: p2pshare\r\n\r\n")
        await server.host.fake.started.wait()
        await client.stream.aclose()
        while server.host.fake.cancelled != ["events"]:
            await trio.lowlevel.checkpoint()
        stays = await connect(server)
        await stays.stream.send_all(b"GET /v1/events?topics=jobs HTTP/1.1\r\nHost: p2pshare\r\n\r\n")
        await stays.stream.receive_some(20)
    data = b""
    while piece := await stays.stream.receive_some(1 << 16):
        data += piece
    assert b'"kind":"cancelled"' in data
    assert data.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /v1/ping HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
        (b"GET /v1/ping HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000, b"431"),
        (b"POST /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (1 << 21), b"413"),
        (b"POST /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /v1/ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
async def test_hostile_bytes_are_refused_and_the_connection_ends(tmp_path, sent, status):
    async with running_server(tmp_path) as server:
        client = await connect(server, Framing.JSON)
        received = b""
        with contextlib.suppress(trio.BrokenResourceError):  # refused before all was sent
            await client.stream.send_all(sent)
        with contextlib.suppress(trio.BrokenResourceError):
            while piece := await client.stream.receive_some(1 << 16):
                received += piece
        assert received.startswith(b"HTTP/1.1 " + status)
        other = await ask(server, ("GET", "/v1/ping", None, {}))
        assert other[0][0] == 200


async def test_curl_asks_before_it_sends_a_large_body(tmp_path):
    async with running_server(tmp_path) as server:
        client = await connect(server)
        await client.stream.send_all(
            b"POST /v1/ping HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await client.stream.receive_some(1000)).startswith(b"HTTP/1.1 100")
        await client.stream.send_all(b"{}")
        assert (await client.stream.receive_some(1000)).startswith(b"HTTP/1.1 200")
