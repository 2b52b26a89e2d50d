"""TLS sessions over real sockets and in memory: who is let in, and what travels."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from p2pshare.errors import TimedOut
from p2pshare.net.session_tls import MAX_BATCH, TlsContext, TlsSession, secure_inbound, secure_outbound
from p2pshare.net.session_tls_engine import MAX_HANDSHAKE, MAX_RECORD
from p2pshare_protocols.errors import RemoteProtocolError
from p2pshare_protocols.peerid import ED25519, encode_public_key
from p2pshare_protocols.tls_identity import TLS, make_certificate
from tests.support_session import ALICE, BOB, socket_pair
from tests.support_tls import ALICES, BOBS, YAMUX, both_wires, read_all, secured, wires


@both_wires
async def test_both_sides_know_each_other_and_bytes_travel(memory: bool) -> None:
    alice, bob = await secured(*await wires(memory), (YAMUX,))
    assert (alice.remote_peer, bob.remote_peer) == (BOB.peer_id, ALICE.peer_id)
    assert alice.remote_public_key.endswith(BOB.public)
    assert alice.muxer == bob.muxer == YAMUX
    assert alice.suite == bob.suite == TLS
    data = bytes(range(256)) * (3 * MAX_BATCH // 256)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.send, [b"head", bytearray(data), memoryview(b"tail")])
        assert await read_all(bob, len(data) + 8) == b"head" + data + b"tail"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bob.send, [b"back"])
        view = bytearray(10)
        assert await alice.receive_into(memoryview(view)) == 4
    assert view.startswith(b"back")
    assert bob.bytes_in == alice.bytes_out > len(data)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.aclose)
        assert await bob.receive_some() == b""
        assert await bob.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await alice.send([b"x"])
    await bob.aclose()


async def test_a_half_that_is_closed_leaves_the_other_open() -> None:
    alice, bob = await secured(*await socket_pair())
    await alice.send([b"question"])
    await alice.send_eof()
    assert await bob.receive_some() == b"question"
    assert await bob.receive_some() == b""
    await bob.send([b"answer"])
    await bob.aclose()
    assert await alice.receive_some() == b"answer"
    assert await alice.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await alice.send([b"more"])
    await alice.aclose()


@pytest.mark.parametrize(
    ("dialler", "other", "agreed"),
    [
        (("/a", YAMUX), (YAMUX, "/a"), "/a"),
        (("/b", YAMUX), (YAMUX,), YAMUX),
        (("/b",), (YAMUX,), None),
        ((), (YAMUX,), None),
        ((YAMUX,), (), None),
    ],
)
async def test_the_muxer_is_agreed_on_within_the_handshake(
    dialler: tuple[str, ...], other: tuple[str, ...], agreed: str | None
) -> None:
    alice, bob = await secured(*await wires(True), dialler, other)
    assert alice.muxer == bob.muxer == agreed


async def refused(
    dial: Callable[[trio.abc.Stream], Awaitable[object]], answer: Callable[[trio.abc.Stream], Awaitable[object]]
) -> tuple[BaseException | None, BaseException | None]:
    """How each side fails."""
    left, right = await socket_pair()
    errors: list[BaseException | None] = [None, None]

    async def run(at: int, side: Awaitable[object]) -> None:
        try:
            await side
        except (RemoteProtocolError, trio.BrokenResourceError, SSL.Error, ssl.SSLError) as error:
            errors[at] = error

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, 0, dial(left))
            nursery.start_soon(run, 1, answer(right))
    await trio.aclose_forcefully(left)
    await trio.aclose_forcefully(right)
    return errors[0], errors[1]


async def read_once(session: Awaitable[TlsSession]) -> None:
    """A client knows only by the server's next bytes that it was taken."""
    await (await session).receive_some()


async def test_another_peer_than_expected_is_refused_and_told_so() -> None:
    ours, theirs = await refused(
        lambda left: secure_outbound(left, ALICES, expected_peer=ALICE.peer_id),
        lambda right: secure_inbound(right, BOBS),
    )
    assert isinstance(ours, RemoteProtocolError)
    assert "not 12D3" in str(ours)
    assert isinstance(theirs, trio.BrokenResourceError)
    assert "alert" in str(theirs)


class Liar(TlsContext):
    """Its certificate names Bob's key, which did not sign it."""

    def __init__(self) -> None:
        super().__init__(ALICE)
        key = ec.generate_private_key(ec.SECP256R1())
        named = encode_public_key(ED25519, BOB.public)
        self._context.use_certificate(make_certificate(key, named, ALICE.private.sign, 1))
        self._context.use_privatekey(key)


async def test_a_client_that_lies_is_refused_and_told_so() -> None:
    theirs, ours = await refused(
        lambda left: read_once(secure_outbound(left, Liar(), expected_peer=None)),
        lambda right: secure_inbound(right, BOBS),
    )
    assert isinstance(ours, RemoteProtocolError)
    assert "did not sign" in str(ours)
    assert isinstance(theirs, trio.BrokenResourceError)


async def test_a_server_that_lies_is_refused_and_told_so() -> None:
    ours, theirs = await refused(
        lambda left: secure_outbound(left, ALICES, expected_peer=None),
        lambda right: secure_inbound(right, Liar()),
    )
    assert isinstance(ours, RemoteProtocolError)
    assert isinstance(theirs, trio.BrokenResourceError)


async def plain_tls(stream: trio.abc.Stream, context: ssl.SSLContext, *, server: bool) -> None:
    wrapped = trio.SSLStream(stream, context, server_side=server, https_compatible=False)
    await wrapped.do_handshake()
    await wrapped.receive_some(1)


def stdlib(client: bool = True, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if client else ssl.PROTOCOL_TLS_SERVER)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    return context


async def test_a_client_without_a_certificate_is_refused() -> None:
    theirs, ours = await refused(
        lambda left: plain_tls(left, stdlib(), server=False), lambda right: secure_inbound(right, BOBS)
    )
    assert isinstance(ours, RemoteProtocolError)
    assert theirs is not None


async def test_older_tls_is_refused() -> None:
    theirs, ours = await refused(
        lambda left: plain_tls(left, stdlib(version=ssl.TLSVersion.TLSv1_2), server=False),
        lambda right: secure_inbound(right, BOBS),
    )
    assert isinstance(ours, RemoteProtocolError)
    assert theirs is not None


def files(tmp_path: Path) -> tuple[Path, Path]:
    """Alice's proper certificate and key, as the ssl module wants them."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = encode_public_key(ED25519, ALICE.public)
    certificate = make_certificate(key, named, ALICE.private.sign, 1)
    pem = serialization.Encoding.PEM
    (tmp_path / "cert").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return tmp_path / "cert", tmp_path / "key"


async def test_another_implementation_of_tls_gets_in_and_may_do_without_alpn(tmp_path: Path) -> None:
    context = stdlib()
    context.load_cert_chain(*files(tmp_path))
    left, right = await socket_pair()
    client = trio.SSLStream(left, context, https_compatible=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        bob = await secure_inbound(right, BOBS, muxers=[YAMUX])
    assert (bob.remote_peer, bob.muxer) == (ALICE.peer_id, None)
    await bob.send([b"in"])
    assert await client.receive_some(2) == b"in"
    await bob.aclose()
    await trio.aclose_forcefully(client)


async def test_a_client_that_wants_another_application_is_refused(tmp_path: Path) -> None:
    context = stdlib()
    context.load_cert_chain(*files(tmp_path))
    context.set_alpn_protocols(["h2"])
    theirs, ours = await refused(
        lambda left: plain_tls(left, context, server=False), lambda right: secure_inbound(right, BOBS)
    )
    assert isinstance(ours, RemoteProtocolError)
    assert "neither libp2p" in str(ours)
    assert theirs is not None
    alice, bob = await secured(*await wires(True))  # the context is none the worse
    assert alice.remote_peer == BOB.peer_id
    assert bob.remote_peer == ALICE.peer_id


async def test_a_chain_of_certificates_is_refused() -> None:
    chained = TlsContext(ALICE)
    key = ec.generate_private_key(ec.SECP256R1())
    other = make_certificate(key, encode_public_key(ED25519, ALICE.public), ALICE.private.sign, 2)
    chained._context.add_extra_chain_cert(other)
    _, ours = await refused(
        lambda left: read_once(secure_outbound(left, chained, expected_peer=None)),
        lambda right: secure_inbound(right, BOBS),
    )
    assert isinstance(ours, RemoteProtocolError)
    assert "chain" in str(ours)
    ours, _ = await refused(
        lambda left: secure_outbound(left, ALICES, expected_peer=None),
        lambda right: read_once(secure_inbound(right, chained)),
    )
    assert isinstance(ours, RemoteProtocolError)
    assert "chain" in str(ours)


async def test_what_is_not_tls_is_refused() -> None:
    left, right = trio.testing.memory_stream_pair()
    await left.send_all(b"GET / HTTP/1.1\r\n\r\n" * 100)
    with pytest.raises(RemoteProtocolError, match="TLS failed"):
        await secure_inbound(right, BOBS)


def test_a_handshake_is_bounded() -> None:
    engine = BOBS.engine(initiator=False, expected_peer=None, muxers=())
    hello = b"\x01" + (MAX_HANDSHAKE - 1).to_bytes(3, "big") + bytes(MAX_HANDSHAKE)  # as long as OpenSSL lets it be
    with pytest.raises(RemoteProtocolError, match="too long"):
        for at in range(0, len(hello), MAX_RECORD):
            part = hello[at : at + MAX_RECORD]
            assert not engine.handshake(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part)


async def test_a_cut_handshake_is_an_error() -> None:
    for cut in (1, 5, 100, 200):
        left, right = trio.testing.memory_stream_pair()
        hello = ALICES.engine(initiator=True, expected_peer=None, muxers=())
        assert not hello.handshake()
        await left.send_all(b"".join(hello.data_to_send())[:cut])
        await left.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await secure_inbound(right, BOBS)


async def test_a_silent_peer_times_out(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    with pytest.raises(TimedOut):
        await secure_inbound(left, BOBS, timeout=5)
    assert await right.receive_some(1) == b""


async def test_bytes_read_with_the_negotiation_are_not_lost() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            session = await secure_outbound(left, ALICES, expected_peer=None)
            await session.send([b"at once"])

        nursery.start_soon(dial)
        early = await right.receive_some(20)
        bob = await secure_inbound(right, BOBS, received=bytes(early))
        assert await bob.receive_some() == b"at once"
